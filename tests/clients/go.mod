// Clients and endpoints that tests put beside the ingress: a module of its own, so that it shares no
// versions with what the cluster is built from.
module sluice.dev/tests/clients

go 1.26.0

require (
	golang.org/x/net v0.61.0
	google.golang.org/grpc v1.83.2
)

require (
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260526163538-3dc84a4a5aaa // indirect
	google.golang.org/protobuf v1.36.11 // indirect
)
