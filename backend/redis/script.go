package redis

import (
	"crypto/sha1" //nolint:gosec // the name that EVALSHA gives to a script
	_ "embed"
	"encoding/hex"
	"fmt"
	"strconv"
)

//go:embed lua/many.lua
var manyLua string

//go:embed lua/acquires.lua
var acquiresLua string

//go:embed lua/releases.lua
var releasesLua string

//go:embed lua/ends.lua
var endsLua string

//go:embed lua/gate.lua
var gateLua string

//go:embed lua/stamp.lua
var stampLua string

//go:embed lua/free.lua
var freeLua string

//go:embed lua/last.lua
var lastLua string

//go:embed lua/record.lua
var recordLua string

//go:embed lua/acquire.lua
var acquireLua string

//go:embed lua/prolong.lua
var prolongLua string

//go:embed lua/release.lua
var releaseLua string

//go:embed lua/leave.lua
var leaveLua string

//go:embed lua/evict.lua
var evictLua string

//go:embed lua/edit.lua
var editLua string

//go:embed lua/inspect.lua
var inspectLua string

//go:embed lua/sweep.lua
var sweepLua string

//go:embed lua/again.lua
var againLua string

//go:embed lua/elect.lua
var electLua string

// script is a Lua script and its SHA-1. One that grants looks at the stamp.
type script struct {
	text, sha string
	grants    bool
	// own are the arguments of each lock in a script of many, common those before
	// them; own is 0 in a script of one.
	common, own int
}

// The scripts. What a script may drop, and its common case, stand before the
// record's text.
var (
	acquireScript = newAcquire(freeLua)
	renewScript   = newScript(true, "", "local adopts = false\n"+prolongLua)
	adoptScript   = newAdopt()
	releaseScript = newRelease(lastLua)
	leaveScript   = newScript(true, "", leaveLua)
	evictScript   = newScript(true, "", evictLua)
	editScript    = newScript(true, "", editLua)
	inspectScript = newScript(false, "", inspectLua)
	sweepScript   = newScript(true, "", sweepLua)
	// These are about no record.
	stampScript = named(stampLua)
	againScript = named(againLua)
	electScript = named(electLua)
)

func newScript(prunes bool, before, body string) *script {
	return named(endsLua + before + "local prunes = " + strconv.FormatBool(prunes) + "\n" + recordLua + body)
}

func newAdopt() *script {
	sc := newScript(true, "local stamp, start = redis.call('GET', KEYS[6]), ARGV[#ARGV]\n"+gateLua, "local adopts = true\n"+prolongLua)
	sc.grants = true
	return sc
}

// newAcquire makes an acquire of many locks; the common case stands before the
// record's text, or is left out.
func newAcquire(common string) *script {
	sc := newMany("local stamp, start = call('GET', all[k + 6]), given[5]\n"+gateLua+common, acquireLua, acquiresLua, 4, 11)
	sc.grants = true
	return sc
}

// newRelease makes a release of many holds.
func newRelease(common string) *script { return newMany(common, releaseLua, releasesLua, 2, 7) }

func newMany(before, body, each string, common, own int) *script {
	take := fmt.Sprintf("take(k, a, %d, %d)\n", common, own)
	sc := named(manyLua + endsLua + "local function one(k, a)\n" + before + take + "local prunes = true\n" + recordLua + body + "end\n\n" + each)
	sc.common, sc.own = common, own
	return sc
}

func named(text string) *script {
	sum := sha1.Sum([]byte(text)) //nolint:gosec // see the import
	return &script{text: text, sha: hex.EncodeToString(sum[:])}
}
