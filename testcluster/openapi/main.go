// A caller of kubeOP through a client that a stock generator made of its OpenAPI document: reads, writes, and meets refusals.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"kubeop.io/openapi/client"
)

func check(holds bool, format string, arguments ...any) {
	if !holds {
		fmt.Fprintf(os.Stderr, format+"\n", arguments...)
		os.Exit(1)
	}
}

func bearer(token string) client.ClientOption {
	return client.WithRequestEditorFn(func(_ context.Context, request *http.Request) error {
		request.Header.Set("Authorization", "Bearer "+token)
		return nil
	})
}

func main() {
	check(len(os.Args) == 3, "usage: openapi URL TOKEN")
	ctx := context.Background()
	admin, err := client.NewClientWithResponses(os.Args[1], bearer(os.Args[2]))
	check(err == nil, "client: %v", err)
	nobody, err := client.NewClientWithResponses(os.Args[1])
	check(err == nil, "client: %v", err)

	version, err := nobody.VersionWithResponse(ctx)
	check(err == nil && version.JSON200 != nil && version.JSON200.Version != "", "version: %v", err)
	refused, err := nobody.ListTenantsWithResponse(ctx, nil)
	check(err == nil && refused.JSON401 != nil && refused.JSON401.Error != "", "without a token: %v %s", err, refused.Body)

	read, err := admin.GetPolicyWithResponse(ctx)
	check(err == nil && read.JSON200 != nil, "policy: %v", err)
	etag := read.HTTPResponse.Header.Get("ETag")
	registries := []string{"ghcr.io", "docker.io"}
	cpu := "4"
	body := client.PolicyInput{ImageAllowlist: &registries, QuotaMax: &client.QuotaMax{RequestsCPU: &cpu}}
	written, err := admin.PutPolicyWithResponse(ctx, &client.PutPolicyParams{IfMatch: &etag}, body)
	check(err == nil && written.JSON200 != nil, "put: %v %s", err, written.Body)
	check(written.JSON200.Version == read.JSON200.Version+1, "version %d after %d", written.JSON200.Version, read.JSON200.Version)
	check(len(written.JSON200.ImageAllowlist) == 2 && *written.JSON200.QuotaMax.RequestsCPU == "4", "%s", written.Body)
	stale, err := admin.PutPolicyWithResponse(ctx, &client.PutPolicyParams{IfMatch: &etag}, body)
	check(err == nil && stale.JSON412 != nil, "stale: %v %s", err, stale.Body)
	wrong := []string{"not a registry"}
	invalid, err := admin.PutPolicyWithResponse(ctx, nil, client.PolicyInput{ImageAllowlist: &wrong})
	check(err == nil && invalid.JSON400 != nil && invalid.JSON400.Error != "", "invalid: %v %s", err, invalid.Body)

	absent, err := admin.GetTenantWithResponse(ctx, "01988c9d-2b1e-7f00-8a11-1d5c2f9e4a21", nil)
	check(err == nil && absent.JSON404 != nil && absent.JSON404.Error != "", "absent: %v", err)
	name, limit := "nobody", int32(10)
	tenants, err := admin.ListTenantsWithResponse(ctx, &client.ListTenantsParams{Name: &name, Limit: &limit})
	check(err == nil && tenants.JSON200 != nil && len(*tenants.JSON200) == 0, "tenants: %v %s", err, tenants.Body)

	key, from := "the-same-twice", "2199-01-01T00:00:00Z"
	price := client.PriceInput{Meter: "cpu_milli", Rate: "0.0000012", EffectiveFrom: &from}
	for _, replayed := range []string{"", "true"} {
		added, err := admin.AddPriceWithResponse(ctx, &client.AddPriceParams{IdempotencyKey: &key}, price)
		check(err == nil && added.JSON201 != nil, "price: %v %s", err, added.Body)
		check(added.HTTPResponse.Header.Get("Idempotency-Replayed") == replayed, "replayed: %v", added.HTTPResponse.Header)
	}
	records, err := admin.ListAuditWithResponse(ctx, &client.ListAuditParams{Limit: &limit})
	check(err == nil && records.JSON200 != nil && len(*records.JSON200) >= 2, "audit: %v %s", err, records.Body)
	letters, err := admin.ListDeadDeliveriesWithResponse(ctx, nil)
	check(err == nil && letters.JSON200 != nil && len(*letters.JSON200) == 0, "dead letters: %v %s", err, letters.Body)
	fmt.Println("the generated client works")
}
