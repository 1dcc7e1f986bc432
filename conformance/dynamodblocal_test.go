//go:build dynamodblocal

package conformance_test

import (
	"testing"

	"github.com/locksidecar/locksidecar/internal/testenv"
)

// Amazon's own emulator, which only whoever has accepted its licence has:
// make conformance-dynamodb-local.
func TestLocalDynamo(t *testing.T) {
	h := onTable(t, testenv.StartDynamoLocal(t), "locks")
	certified(t, row{name: "dynamodb-local", table: "dynamodb", whole: true, options: few}, h)
}
