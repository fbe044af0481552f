-- A store as version 1 wrote it: two sessions, one with events of which the oldest are gone, and one that is half forgotten.
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    user TEXT NOT NULL,
    ended_at TEXT,
    forgotten INTEGER NOT NULL DEFAULT 0,
    document TEXT NOT NULL
) STRICT;
CREATE TABLE turns (
    session INTEGER NOT NULL,
    number INTEGER NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (session, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE permissions (
    session INTEGER NOT NULL,
    number INTEGER NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (session, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE events (
    session INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    lines BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX events_in_order ON events (session, first, last, bytes);
CREATE TABLE marks (
    session INTEGER PRIMARY KEY,
    document TEXT NOT NULL
) STRICT;
CREATE TABLE trims (
    session INTEGER PRIMARY KEY,
    earliest INTEGER NOT NULL,
    up_to INTEGER NOT NULL
) STRICT;
INSERT INTO sessions VALUES (1, 'ses_one', 'ada', NULL, 0, '{"title":"one"}');
INSERT INTO sessions VALUES (2, 'ses_gone', 'ada', '2026-11-19T12:00:00Z', 1, '{"title":"gone"}');
INSERT INTO sessions VALUES (3, 'ses_other', 'bob', '2026-11-20T12:00:00.5Z', 0, '{"title":"other"}');
INSERT INTO turns VALUES (1, 1, '{"prompt":"hello"}'), (1, 2, '{"prompt":"and again"}');
INSERT INTO permissions VALUES (1, 1, '{"answer":null}');
INSERT INTO events VALUES (1, 3, 4, 18, CAST('{"seq":3}' || char(10) || '{"seq":4}' || char(10) AS BLOB));
INSERT INTO events VALUES (1, 5, 5, 9, CAST('{"seq":5}' || char(10) AS BLOB));
INSERT INTO events VALUES (2, 1, 1, 9, CAST('{"seq":1}' || char(10) AS BLOB));
INSERT INTO events VALUES (3, 1, 1, 9, CAST('{"seq":1}' || char(10) AS BLOB));
INSERT INTO marks VALUES (1, '{"chunk":9}');
INSERT INTO trims VALUES (1, 3, 3);
PRAGMA application_id = 1198681714;
PRAGMA user_version = 1;
