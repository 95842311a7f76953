-- Under which name and address a statement was made: its file is made again with these, whatever the bank is called since.
ALTER TABLE statement ADD COLUMN bank text, ADD COLUMN issuer text;
