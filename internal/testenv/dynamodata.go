package testenv

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Version is the emulator's name and version.
func (d *Dynamo) Version() string { return d.version }

// Credentials are those of CredentialsFile.
func (d *Dynamo) Credentials() aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "test", SecretAccessKey: DynamoSecret}, nil
	})
}

// Client is a new client of the emulator, for the test's own requests. Unless it is
// changed, it leaves no connection open.
func (d *Dynamo) Client(change ...func(*dynamodb.Options)) *dynamodb.Client {
	endpoint := d.Endpoint()
	return dynamodb.NewFromConfig(aws.Config{Region: DynamoRegion, Credentials: d.Credentials()}, append([]func(*dynamodb.Options){func(o *dynamodb.Options) {
		o.BaseEndpoint = &endpoint
		o.HTTPClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	}}, change...)...)
}

// Items reads all items of a table.
func (d *Dynamo) Items(ctx context.Context, table string) (items []map[string]types.AttributeValue, err error) {
	pages := dynamodb.NewScanPaginator(d.Client(), &dynamodb.ScanInput{TableName: &table, ConsistentRead: aws.Bool(true)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		items = append(items, page.Items...)
	}
	return items, nil
}

// Wipe deletes all items of a table.
func (d *Dynamo) Wipe(ctx context.Context, table string) error {
	items, err := d.Items(ctx, table)
	if err != nil {
		return err
	}
	c := d.Client()
	for len(items) > 0 {
		n := min(len(items), 25)
		var batch []types.WriteRequest
		for _, item := range items[:n] {
			batch = append(batch, types.WriteRequest{DeleteRequest: &types.DeleteRequest{Key: map[string]types.AttributeValue{"k": item["k"]}}})
		}
		out, err := c.BatchWriteItem(ctx, &dynamodb.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{table: batch}})
		if err != nil {
			return err
		}
		if len(out.UnprocessedItems) > 0 {
			return fmt.Errorf("%d items were not deleted", len(out.UnprocessedItems[table]))
		}
		items = items[n:]
	}
	return nil
}

// MustItems is Items for a test.
func (d *Dynamo) MustItems(t testing.TB, table string) []map[string]types.AttributeValue {
	t.Helper()
	items, err := d.Items(t.Context(), table)
	if err != nil {
		t.Fatal(err)
	}
	return items
}

// Deliver sends a request again, as a network may do much later, and returns the
// status of the answer.
func (d *Dynamo) Deliver(t testing.TB, operation string, body []byte) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.Endpoint()+"/", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	r.Header.Set("X-Amz-Target", "DynamoDB_20120810."+operation)
	sum := sha256.Sum256(body)
	credentials, _ := d.Credentials().Retrieve(t.Context()) // they are fixed
	if err := v4.NewSigner().SignHTTP(t.Context(), credentials, r, hex.EncodeToString(sum[:]), "dynamodb", DynamoRegion, time.Now()); err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	return answer.StatusCode
}
