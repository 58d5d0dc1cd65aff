# SPDX-License-Identifier: Apache-2.0
"""A history of all changes to places and waiting lists, checked by a model.

Triggers record each change in the database, under the lock of the change. So the records of
one room (a session, an occurrence, an invite code) are in order of execution, and those of one
transaction are consecutive. A model, independent of the operations, then reads the records and
reports violated rules.
"""

import collections

INSTALL = """
CREATE SCHEMA history;
CREATE TABLE history.notes (
    n bigserial PRIMARY KEY,
    transaction bigint NOT NULL DEFAULT txid_current(),
    room text NOT NULL,
    -- of a room:
    capacity integer,
    kept integer,
    may_come boolean,
    may_wait boolean,
    -- of a registration:
    registration uuid,
    version integer,
    person text,
    before text,
    after text
);

CREATE FUNCTION history.of_live_session() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO history.notes (room, capacity, kept, may_come, may_wait)
    VALUES (NEW.id, NEW.max_participants, NEW.registered_count,
            NEW.status IN ('scheduled', 'live'), false);
    RETURN NULL;
END $$;
CREATE FUNCTION history.of_invite_code() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    -- Uses of an unlimited code are not counted.
    INSERT INTO history.notes (room, capacity, kept, may_come, may_wait)
    VALUES (NEW.code, NEW.max_uses, CASE WHEN NEW.max_uses IS NOT NULL THEN NEW.uses END,
            true, false);
    RETURN NULL;
END $$;
CREATE FUNCTION history.of_occurrence() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO history.notes (room, capacity, kept, may_come, may_wait)
    VALUES (NEW.id, NEW.capacity, NEW.registrations, true, NEW.waiting_list);
    RETURN NULL;
END $$;

-- A row without status either exists or not. The arguments are the columns of the room and of
-- the person.
CREATE FUNCTION history.of_registration() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    one jsonb := to_jsonb(CASE TG_OP WHEN 'INSERT' THEN NEW ELSE OLD END);
BEGIN
    INSERT INTO history.notes (room, registration, person, before, after)
    VALUES (one ->> TG_ARGV[0], (one ->> 'id')::uuid, one ->> TG_ARGV[1],
            CASE TG_OP WHEN 'DELETE' THEN 'holds' END,
            CASE TG_OP WHEN 'INSERT' THEN 'holds' END);
    RETURN NULL;
END $$;
CREATE FUNCTION history.state(status text, deleted_at timestamptz) RETURNS text
LANGUAGE sql RETURN CASE
    WHEN deleted_at IS NOT NULL THEN 'trashed'
    WHEN status = 'CANCELLED' THEN 'cancelled'
    WHEN status = 'WAITING_LIST' THEN 'waits'
    WHEN status IS NOT NULL THEN 'holds'
END;
CREATE FUNCTION history.of_event_registration() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO history.notes (room, registration, version, person, before, after)
    VALUES (NEW.occurrence_id, NEW.id, NEW.version, NEW.user_id,
            history.state(OLD.status, OLD.deleted_at),
            history.state(NEW.status, NEW.deleted_at));
    RETURN NULL;
END $$;

-- Named so that they fire before the triggers that promote.
CREATE TRIGGER a_note AFTER INSERT OR UPDATE ON live_sessions
    FOR EACH ROW EXECUTE FUNCTION history.of_live_session();
CREATE TRIGGER a_note AFTER INSERT OR UPDATE ON invite_codes
    FOR EACH ROW EXECUTE FUNCTION history.of_invite_code();
CREATE TRIGGER a_note AFTER INSERT OR UPDATE ON occurrences
    FOR EACH ROW EXECUTE FUNCTION history.of_occurrence();
CREATE TRIGGER a_note AFTER INSERT OR DELETE ON live_registrations
    FOR EACH ROW EXECUTE FUNCTION history.of_registration('session_id', 'patient_id');
CREATE TRIGGER a_note AFTER INSERT OR DELETE ON group_members
    FOR EACH ROW EXECUTE FUNCTION history.of_registration('invite_code', 'email');
CREATE TRIGGER a_note AFTER INSERT OR UPDATE ON event_registrations
    FOR EACH ROW EXECUTE FUNCTION history.of_event_registration();
"""

# States that only one registration of a person in a room may have.
COUNTING = ("holds", "waits")

Note = collections.namedtuple("Note", "n transaction room capacity kept may_come may_wait"
                                      " registration version person before after")

# Violated rules.
MISSED = "a change was not recorded"
NO_PLACE = "a place was given while none was free"
NOT_OPEN = "a place was given in a closed room"
NOT_FIRST = "a promoted registration was not the first of the waiting list"
OVERTAKEN = "a place was given past a waiting registration"
NO_LIST = "a registration waits although there is no waiting list"
BACK = "a trashed registration came back"
COUNT = "the count differs from the rows"
LEFT_WAITING = "a registration waits while a place is free"
TWICE = "a person is registered twice"


class Room:
    """The state of one room after its records. `faults` has the violations, with records."""

    def __init__(self):
        self.state = {}      # of each registration
        self.people = collections.Counter()   # counting registrations by person
        self.waiting = []    # registrations, longest-waiting first
        self.held = 0
        self.room = None     # the last note of the room itself
        self.transaction = None
        self.last = None
        self.faults = []

    def read(self, note):
        if self.transaction not in (None, note.transaction):
            self.check_commit()
        self.transaction, self.last = note.transaction, note
        if note.registration is None:
            self.room = note
        else:
            self.change(note)

    def change(self, note):
        before, after = self.state.get(note.registration), note.after
        self.check(before == note.before, MISSED)
        self.check(before != "trashed" or after == "trashed", BACK)
        self.state[note.registration] = after
        self.people[note.person] += (after in COUNTING) - (before in COUNTING)
        if before == after:
            return
        if after == "holds":
            self.give_place(note.registration, before)
        if before == "holds":
            self.held -= 1
        if before == "waits":
            self.waiting.remove(note.registration)
        if after == "waits":
            self.check(self.room.may_wait, NO_LIST)
            self.waiting.append(note.registration)

    def give_place(self, registration, before):
        self.check(self.has_place(), NO_PLACE)
        self.check(self.room.may_come, NOT_OPEN)
        if before == "waits":
            self.check(self.waiting[0] == registration, NOT_FIRST)
        else:
            self.check(not self.waiting, OVERTAKEN)
        self.held += 1

    def has_place(self):
        return self.room.capacity is None or self.held < self.room.capacity

    def check_commit(self):
        """Checks the rules that hold at the end of each transaction."""
        self.check(self.room.kept in (None, self.held), COUNT)
        self.check(not (self.waiting and self.has_place()), LEFT_WAITING)
        self.check(max(self.people.values(), default=0) <= 1, TWICE)

    def check(self, is_right, fault):
        if not is_right:
            self.faults.append((fault, self.last))


class History:
    """The records of some rooms."""

    def __init__(self, postgres, rooms):
        self.notes = [Note(*row) for row in postgres.query(
            "SELECT * FROM history.notes WHERE room = ANY (%s) ORDER BY n", rooms)]

    def faults(self):
        """The violations, each with its record."""
        rooms = collections.defaultdict(Room)
        for note in self.notes:
            rooms[note.room].read(note)
        for room in rooms.values():
            room.check_commit()
        return [fault for room in rooms.values() for fault in room.faults]

    def made(self):
        """The ids of the registrations that were created."""
        return {note.registration for note in self.notes if note.registration
                and note.before is None}

    def states(self):
        """The state of each version of each event registration."""
        return {(note.registration, note.version): note.after for note in self.notes
                if note.version is not None}
