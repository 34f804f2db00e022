"""Mail of other programs, read once so that `mailgate import` can take it over. Changes nothing there."""
