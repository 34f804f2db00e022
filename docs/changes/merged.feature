Several stores as one maildrop: [stores.NAME] and [store] merge. One numbering, unique-ids that stay the same
whatever the other stores hold, QUIT with an honest answer when one of them fails; a store that is away puts
logins off, or is done without where it is optional.
