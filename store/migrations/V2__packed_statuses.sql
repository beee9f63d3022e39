-- A status is written often and read at a start: it is packed (a byte 1, then the packed value). One
-- that was written as text before stays text until it changes.
alter table states alter column status type bytea using convert_to(status, 'UTF8');
alter table changes alter column old_status type bytea using convert_to(old_status, 'UTF8');
