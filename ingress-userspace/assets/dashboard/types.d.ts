// The types of the API, for the checker only: the daemon's are in src/api, their schemas in docs/schema/v1.

export interface Sample {
  time: string; state: string; generation: number; requests: number; client_errors: number;
  server_errors: number; requests_open: number; connections_accepted: number; connections_open: number;
  tls_handshake_failures: number; cpu_seconds: number; resident_bytes: number; duration_buckets: number[];
}
export interface ObjectName { kind: string; namespace: string; name: string }
export interface BackendShare {
  backend: string; weight: number; canary: boolean; endpoints: number; draining: number;
}
export type RouteTarget =
  | { kind: 'backends'; backends: BackendShare[] }
  | { kind: 'redirect'; location: string; status: number }
  | { kind: 'respond'; status: number }
  | { kind: 'unavailable' };
/** `nodes` is in the view of several nodes only: the nodes that have the row. */
export interface OfNodes { nodes?: string[] }
export interface Route extends OfNodes {
  host: string; path: string; path_type: string; object: ObjectName; tls: boolean; target: RouteTarget;
}
export interface Endpoint extends OfNodes { backend: string; protocol: string; address: string; state: string; path: string }
export interface CertificateOrder {
  issuer: string; renews_at: string | null; failed_attempts: number; error: string | null;
  retry_at: string | null;
}
export interface Certificate extends OfNodes {
  host: string; secret: ObjectName; names: string[]; issuer: string; not_after: string | null;
  days_left: number | null; order: CertificateOrder | null;
}
export interface Problem extends OfNodes {
  severity: string; object: string | null; field: string | null; text: string; since: string;
}
export interface Generation {
  node?: string; generation: number; time: string; hosts: number; rules: number; backends: number; endpoints: number;
  certificates: number;
}
export interface Traffic {
  name: string; requests: number; client_errors: number; server_errors: number; received: number;
  sent: number; duration_buckets: number[];
}
export interface LastUse { route: string; time: string }
export interface PacketReason { reason: string; verdict: string; meaning: string }
export interface Counter { program: string; reason: string; packets: number }
export interface Device {
  node?: string;
  name: string; role: string; datapath: string; steer: string | null; guard: string; reason: string | null;
}
export interface Frontend { node?: string; address: string; ports: number[]; given_by: string; is_steered: boolean }
export interface PathCounts { requests: number; connections_open: number; connections_accepted: number }
export interface Worker {
  node?: string;
  worker: number; is_running: boolean; generation: number; requests_open: number; netns: PathCounts;
  host: PathCounts; upstream_connects: number; upstream_connect_failures: number; upstream_reuses: number;
  upstream_ejections: number; panics: number;
}
export interface Failing { node?: string; address: string; reason: string }
export interface Node {
  node: string; state: string; reason: string | null; version: string | null; uptime_seconds: number | null;
  generation: number; requests: number; server_errors: number; connections_open: number; resident_bytes: number;
  mode: string | null; mode_reason: string | null;
}
export interface Status {
  version: string; pid: number; state: string; uptime_seconds: number; generation: number;
  config: { hosts: number; rules: number; backends: number; endpoints: number; certificates: number };
  datapath: {
    mode: string; reason: string | null; helper_pid: number | null;
    gate: { device: string; netns: string; return_path: string } | null;
    devices: Device[]; counters: Counter[]; direct_endpoints: number;
    shortcut: { is_on: boolean; endpoints?: number; reason?: string | null };
  };
  frontends: Frontend[];
  workers: Worker[];
  health_checks: { backend: string; endpoints: number; failing: Failing[] }[];
  ignored_annotations: string[];
  problems: { severity: string; text: string }[];
  nodes?: Node[];
}
export interface TailLine {
  node?: string;
  time: string; client: string; scheme: string; protocol: string; method: string; host: string; path: string;
  status: number; seconds: number; received: number; sent: number; ingress: ObjectName | null;
  service: string | null; endpoint: string | null; attempts: number;
}
export interface Explanation {
  host: string; path: string;
  served_by: null | {
    object: string; host: string; path: string; answer?: string; backend: string | null;
    protocol: string | null; endpoints: string[]; draining: string[];
  };
  passage: {
    is_https: boolean; certificate: string | null; passed_through_to: string | null; answer: string | null;
    answered_by: string | null; checks: string[]; sent_path: string | null; sent_host: string | null;
    canaries: string[];
  };
  lost: { object: string; field: string; host: string; path: string; reason: string }[];
  problems: string[];
}
/** One explanation of the nodes that agree. */
export interface Answer { nodes: string[]; answer: Explanation }
export interface Session {
  version: string; instance: string; tail: boolean; tail_is_on: boolean; is_of_nodes: boolean;
}
export interface Hello extends Session { is_resumed: boolean | null }
/** Numbers of a second, over the last seconds. */
export interface Rate { requests: number; clientErrors: number; serverErrors: number; p50: number | null; p99: number | null }
export type Tone = 'ok' | 'warn' | 'bad' | 'muted' | 'plain';

export interface Column<Row> {
  id: string; title: string; width: number; numeric?: boolean;
  text: (row: Row) => string;
  sort?: (row: Row) => number | string;
  href?: (row: Row) => string | null;
  tone?: (row: Row) => Tone;
  hint?: (row: Row) => string;
}
export interface Page {
  title: string;
  topics: string[];
  filter?: URLSearchParams;
  element: HTMLElement;
  update: (changed: Set<string>) => void;
  close?: () => void;
}
