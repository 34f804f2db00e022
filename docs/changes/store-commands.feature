mailgate store copy moves accounts and mail between any two stores, may be broken off and repeated, and compares each
message by its digest; mailgate store verify reads a whole store through; mailgate store sweep removes bodies that no
message names.
