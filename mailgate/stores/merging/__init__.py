"""One maildrop from several stores."""
