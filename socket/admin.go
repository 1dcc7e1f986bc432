package socket

import (
	"log/slog"
	"net/http"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// adminReads and adminWrites are the calls that an operator may make over another
// listener than the socket.
var (
	adminReads = map[string]bool{
		lockpb.LockService_Get_FullMethodName: true, lockpb.AdminService_List_FullMethodName: true, lockpb.AdminService_GetStatus_FullMethodName: true,
	}
	adminWrites = map[string]bool{
		lockpb.AdminService_ForceRelease_FullMethodName: true, lockpb.AdminService_CancelWaiter_FullMethodName: true,
		lockpb.AdminService_Reprioritize_FullMethodName: true,
	}
)

// Admin serves an operator whom the caller has authenticated: what reads locks and
// the status, and, if write is set, what ends or moves another's lease or wait. Who
// names the operator in events and in the log. Authorize is not asked: it judges
// peers of the socket.
func (s *Server) Admin(who string, write bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e, err := route(r.Method, r.URL.EscapedPath())
		switch {
		case err != nil:
		case adminReads[e.method], write && adminWrites[e.method]:
		case adminWrites[e.method]:
			s.log.write(slog.LevelWarn, "an operator was refused", driver.LogOperator, who, driver.LogRemote, r.RemoteAddr,
				driver.LogVerb, string(verbOf[e.method]), driver.LogMethod, e.method, driver.LogLock, e.lockID)
			err = errDenied
		default:
			err = errNoPath
		}
		if err == nil && e.perLock {
			err = backend.ValidLockID(e.lockID)
		}
		var body []byte
		if err == nil {
			body, err = s.readBody(w, r)
		}
		if err != nil {
			s.writeError(w, err)
			return
		}
		out, err := s.call(r, &conn{admin: who}, e, body)
		if err != nil {
			s.writeError(w, err)
			return
		}
		s.writeMessage(w, http.StatusOK, whole, out)
	})
}
