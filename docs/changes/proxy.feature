PROXY headers of versions 1 and 2 in front of every protocol (``proxy_from``): a client behind a load balancer has its own
address, in limits and logs.
