What connections ask of an embedded store is handed to its threads once a turn of the reactor: logins and sessions cost a seventh less.
