package dynamodb

// The conditions and updates of all writes. Names that are made of data stand
// behind #, values behind a colon; the test flips each comparison.
var (
	// acquireCondition: nobody holds, nobody waits, the token rises, and nothing
	// has ended the acquire before.
	acquireCondition = "attribute_not_exists(k) OR (f = :f AND size(h) = :zero AND size(q) = :zero AND tok < :token" +
		" AND NOT contains(gone, :request) AND NOT contains(gone, :attempt))"
	acquireUpdate = "SET f = :f, tok = :token, h = :h, q = if_not_exists(q, :none), gone = if_not_exists(gone, :none)," +
		" seq = if_not_exists(seq, :zero), v = if_not_exists(v, :zero) + :one"

	// renewCondition: the format is known, the lease stands, is the caller's, was not revoked, and no
	// later renewal has come first. What it needs besides for one attachment is
	// attachCondition.
	renewCondition  = "f = :f AND h.#t.k = :key AND h.#t.rv = :no AND h.#t.hb < :beat AND h.#t.tl <= :ttl"
	attachCondition = " AND h.#t.a = :attach"
	renewUpdate     = "SET h.#t.hb = :beat, h.#t.tl = :ttl"
	adoptUpdate     = renewUpdate + ", h.#t.a = h.#t.a + :one, v = v + :one" // who decides on what was read must see who is attached

	// releaseCondition: the format is known, the lease stands, is the caller's, and the hold is its only
	// one; the ends are few.
	releaseCondition = "f = :f AND h.#t.k = :key AND size(h.#t.r) = :one AND contains(h.#t.r, :request) AND size(gone) < :many"
	releaseUpdate    = "REMOVE h.#t SET gone = list_append(gone, :end), v = v + :one"

	// absentCondition and versionCondition: the record is the one that was read.
	absentCondition  = "attribute_not_exists(k)"
	versionCondition = "v = :v"
	// beatCondition: the lease was not renewed since it was read.
	beatCondition = " AND h.#t%d.hb = :b%d"

	// deadBeatCondition: the driver whose places were dropped is still silent.
	deadBeatCondition = "hb = :hb"
)

// many is the number of texts in gone, two for an end, beyond which a release reads
// the record, to leave only the latest ends. The fewer they are, the less each write
// of the lock costs; the more, the fewer releases have to read.
const many = 64

// busyFilter: a record of a lock that somebody holds or waits for.
var busyFilter = "begins_with(k, :prefix) AND (size(h) > :zero OR size(q) > :zero)"
