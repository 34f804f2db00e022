"""Several processes that serve together: `workers = N`. See decision 14 for why it is as it is.

The process that twistd started is the *parent* (`parent`). It binds the ports and accepts nobody, opens
no store and holds no key. Its *workers* (`child`) are N processes of `python -m mailgate.workers`, each
a whole service behind sockets that it was handed (`ports`). Those of one configuration are a
*generation* (`generation`); a reload makes the next one.

They talk in lines of JSON (`channel`): the parent on the worker's standard input, the worker on
descriptor 3. The first line is the order: what to serve. Nothing of it stands on a command line. The end
of either channel means that the other process is dead.
"""
