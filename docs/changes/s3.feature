``bodies = "s3://..."``: large messages in any bucket that speaks S3, for one node or many, with credentials in a file, the
environment or by the machine's role; ``mailgate check`` tries the bucket. Small bodies outside the database are read ahead,
from a bucket sixteen at once, from files in one go.
