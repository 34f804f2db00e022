``[console]``: a page in a browser that shows listeners, live sessions with their commands and status lines, and maildrops.
It changes nothing, shows neither secrets nor content, and is off unless configured.
