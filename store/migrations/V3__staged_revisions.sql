-- Rows of a large revision are written ahead of it, with its number. Nobody sees them before the
-- revision's own line is there; what never gets one goes before the next is staged.
create index desired_staged on desired (from_revision);

-- Fails unless all rows of a revision were staged.
create function staged(this_revision bigint, put bigint) returns void language plpgsql as $$
declare
    found_rows bigint;
begin
    select count(*) into found_rows from desired where from_revision = this_revision;
    if found_rows is distinct from put then
        raise exception '% rows of revision % are staged, not %', found_rows, this_revision, put using errcode = 'TL003';
    end if;
end
$$;
