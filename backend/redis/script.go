package redis

import (
	"crypto/sha1" //nolint:gosec // the name that EVALSHA gives to a script
	_ "embed"
	"encoding/hex"
	"strconv"
)

//go:embed lua/ends.lua
var endsLua string

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

//go:embed lua/inspect.lua
var inspectLua string

// script is a Lua script and its SHA-1.
type script struct{ text, sha string }

// The scripts. What a script may drop, and its common case, stand before the
// record's text.
var (
	acquireScript = newScript(true, freeLua, acquireLua)
	prolongScript = newScript(true, "", prolongLua)
	releaseScript = newScript(true, lastLua, releaseLua)
	leaveScript   = newScript(true, "", leaveLua)
	evictScript   = newScript(true, "", evictLua)
	inspectScript = newScript(false, "", inspectLua)
)

func newScript(prunes bool, common, body string) *script {
	text := endsLua + common + "local prunes = " + strconv.FormatBool(prunes) + "\n" + recordLua + body
	sum := sha1.Sum([]byte(text)) //nolint:gosec // see the import
	return &script{text, hex.EncodeToString(sum[:])}
}
