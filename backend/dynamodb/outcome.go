package dynamodb

import (
	"errors"
	"fmt"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// ErrThrottled says that the table or the account has no capacity left for the call,
// which was not done. It is also driver.ErrUnavailable, because repeating is safe,
// and driver.ErrLimit, because the store works: no breaker opens for it.
var ErrThrottled = fmt.Errorf("%w: %w: the table is throttled", driver.ErrUnavailable, driver.ErrLimit)

// errRefused is of a conditional write whose condition was not true.
var errRefused = errors.New("the condition was not true")

// throttles are the codes by which the service says that it has done nothing
// because there is too much to do.
var throttles = map[string]bool{
	"ProvisionedThroughputExceededException": true, "ThrottlingException": true, "RequestLimitExceeded": true,
	"Throttling": true, "TooManyRequestsException": true, "LimitExceededException": true,
}

// outcome says what an error of the SDK proves about the request a.
func (s *Store) outcome(e effect, a *attempt, err error) error {
	if err == nil {
		return nil
	}
	var refused *types.ConditionalCheckFailedException
	var answer smithy.APIError
	switch {
	case errors.As(err, &refused):
		return errRefused
	case s.closed.Load():
		return driver.ErrClosed
	case !a.sent.Load(): // no connection, or no credentials
		return fmt.Errorf("%w: %w", driver.ErrUnavailable, err)
	case errors.As(err, &answer) && throttles[answer.ErrorCode()]:
		s.brake.throttled(s.o.Clock.Now())
		return fmt.Errorf("%w: %w", ErrThrottled, err)
	case e == reads:
		return fmt.Errorf("%w: %w", driver.ErrUnavailable, err)
	case understood(err):
		return fmt.Errorf("%w: %w", driver.ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %w", driver.ErrIndeterminate, err)
}

// understood says that the service refused a request for what it is: no table, no
// right, not valid.
func understood(err error) bool {
	var response *awshttp.ResponseError
	return errors.As(err, &response) && response.HTTPStatusCode() >= 400 && response.HTTPStatusCode() < 500
}
