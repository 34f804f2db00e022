``mailgate harness --console`` serves a page: sessions as they happen, mail shown harmlessly, faults and scenarios to switch on, a
composer and a place to drop files, accounts and the clock.
