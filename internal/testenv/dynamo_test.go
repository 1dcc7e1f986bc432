package testenv_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/locksidecar/locksidecar/internal/testenv"
)

// What the driver's guarantees rest on: of the conditional writes of sixteen
// writers, a thousand increments are exactly a thousand successes. (An emulator
// that has more, as moto has with its threads, cannot stand in for DynamoDB.)
func TestConditionalWritesOfTheEmulatorAreAtomic(t *testing.T) {
	t.Parallel()
	const writers, increments = 16, 1000
	transport := &http.Transport{MaxIdleConnsPerHost: writers}
	defer transport.CloseIdleConnections()
	c := testenv.StartDynamoT(t).Client(func(o *dynamodb.Options) { o.HTTPClient = &http.Client{Transport: transport} })
	table := "counters"
	if _, err := c.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName: &table, BillingMode: types.BillingModePayPerRequest,
		KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("k"), KeyType: types.KeyTypeHash}},
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("k"), AttributeType: types.ScalarAttributeTypeS}},
	}); err != nil {
		t.Fatal(err)
	}
	// It answers before the table is there.
	if err := dynamodb.NewTableExistsWaiter(c, func(o *dynamodb.TableExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = 10*time.Millisecond, 100*time.Millisecond
	}).Wait(t.Context(), &dynamodb.DescribeTableInput{TableName: &table}, time.Minute); err != nil {
		t.Fatal(err)
	}
	key := map[string]types.AttributeValue{"k": &types.AttributeValueMemberS{Value: "a"}}
	number := func(n int) types.AttributeValue { return &types.AttributeValueMemberN{Value: strconv.Itoa(n)} }
	if _, err := c.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &table, Item: map[string]types.AttributeValue{"k": key["k"], "n": number(0)}}); err != nil {
		t.Fatal(err)
	}
	var successes atomic.Int32
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for {
				out, err := c.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: &table, Key: key, ConsistentRead: aws.Bool(true)})
				if err != nil {
					t.Errorf("read: %v", err)
					return
				}
				n, err := strconv.Atoi(out.Item["n"].(*types.AttributeValueMemberN).Value)
				if err != nil || n >= increments {
					return
				}
				_, err = c.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
					TableName: &table, Key: key, UpdateExpression: aws.String("SET n = :next"), ConditionExpression: aws.String("n = :n"),
					ExpressionAttributeValues: map[string]types.AttributeValue{":n": number(n), ":next": number(n + 1)},
				})
				var refused *types.ConditionalCheckFailedException
				switch {
				case err == nil:
					successes.Add(1)
				case !errors.As(err, &refused):
					t.Errorf("write: %v", err)
					return
				}
			}
		})
	}
	all.Wait()
	if n := successes.Load(); n != increments {
		t.Errorf("%d successes for %d increments", n, increments)
	}
}

// A client that leaves in the middle of its request does not end the emulator.
func TestTheEmulatorOutlivesAClientThatLeaves(t *testing.T) {
	t.Parallel()
	e := testenv.StartDynamoT(t)
	for range 20 {
		conn, err := net.Dial("tcp", e.Addr())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf"); err != nil {
			t.Fatal(err)
		}
		_ = conn.(*net.TCPConn).SetLinger(0) // a reset
		_ = conn.Close()
	}
	if _, err := e.Client().ListTables(t.Context(), &dynamodb.ListTablesInput{}); err != nil {
		t.Error(err)
	}
}
