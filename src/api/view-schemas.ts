// Schemas of the API's answers, for its OpenAPI document; the compiler checks them against the view types.

import * as z from 'zod'
import type {
  DoctorView,
  EndpointView,
  HostView,
  KvEntryView,
  KvPageView,
  MemberView,
  NamespaceView,
  NetworkView,
  RaftPeerView,
  ReloadView,
  ServiceView,
  StatusView
} from '#model/views.ts'
import { MAX_BACKENDS, PROTOCOLS } from '#model/service.ts'
import {
  EGRESS_V6,
  ENDPOINT_SETTINGS,
  mapSettings,
  NETWORK_SETTINGS,
  SHAPING_SETTINGS,
  type KindValues,
  type SettingKind,
  type Settings
} from '#model/settings.ts'

const count = z.int().min(0)
const role = z.enum(['server', 'client'])
const memberStatus = z.enum(['alive', 'leaving', 'left', 'failed'])
const bitsPerSecond = z.int().min(0).describe('bits/s; 0 = unlimited')
const counted = count.nullable()

/** The schema of each kind of setting. */
const OUTPUTS: { readonly [K in SettingKind]: z.ZodType<KindValues[K]> } = {
  rate: bitsPerSecond,
  delay: count.describe('microseconds'),
  mtu: count,
  flag: z.boolean(),
  egressV6: z.enum(EGRESS_V6).describe('How IPv6 leaves a host: translated to its address, or routed')
}

function settings<T extends Settings>(table: T): { [K in keyof T]: z.ZodType<KindValues[T[K]['kind']]> } {
  return mapSettings(table, ({ kind }) => OUTPUTS[kind]) as never
}

const network = z.strictObject({
  name: z.string(),
  vni: count,
  subnet: z.string(),
  subnets: z.array(z.string()).describe('One of each family at most, `subnet` first'),
  gateway: z.string(),
  gateways: z.array(z.string()).describe('One for each subnet'),
  ...settings(NETWORK_SETTINGS),
  endpoints: count
}) satisfies z.ZodType<NetworkView>

const endpoint = z.strictObject({
  network: z.string(),
  containerId: z.string(),
  name: z.string(),
  ifname: z.string(),
  host: z.string().describe('The host’s name'),
  address: z.string().describe('With prefix length'),
  addresses: z.array(z.string()).describe('One for each subnet of the network, `address` first'),
  gateway: z.string(),
  gateways: z.array(z.string()),
  mac: z.string(),
  vni: count,
  mtu: count,
  hostInterface: z.string(),
  ...settings(ENDPOINT_SETTINGS),
  labels: z.record(z.string(), z.string()),
  dns: z
    .strictObject({ nameservers: z.array(z.string()), search: z.array(z.string()) })
    .nullable()
    .describe('For the container’s resolv.conf; null if its network has no resolver'),
  rxBytes: counted.describe('From the container’s point of view; null on hosts other than its own'),
  txBytes: counted,
  rxPackets: counted,
  txPackets: counted,
  rxRate: counted.describe('bits/s over the last few seconds; null until two samples exist'),
  txRate: counted,
  hostIfindex: counted.describe('Index of the device whose counters these are'),
  installed: z
    .strictObject(settings(SHAPING_SETTINGS))
    .nullable()
    .describe('What the kernel enforces; null in lists and on hosts other than its own')
}) satisfies z.ZodType<EndpointView>

const service = z.strictObject({
  network: z.string(),
  name: z.string(),
  addresses: z.array(z.string()).describe('One of each family at most; none: a headless service'),
  ports: z.array(
    z.strictObject({ protocol: z.enum(PROTOCOLS), port: count, targetPort: count.describe('Of the backends') })
  ),
  affinitySeconds: count.describe('0: a client keeps its backend as long as a connection lasts'),
  select: z.array(z.string()).nullable().describe('`key=value` or `key`; null where the backends are fixed'),
  backends: z.array(z.string()).nullable().describe('`ADDRESS[:PORT]`; null where labels choose them'),
  endpoints: count.describe(
    `How many endpoints of the network these are now; a service with an address uses ${MAX_BACKENDS} of more`
  )
}) satisfies z.ZodType<ServiceView>

const member = z.strictObject({
  name: z.string(),
  address: z.string(),
  status: memberStatus,
  role,
  vtep: z.string(),
  peerId: z.string()
}) satisfies z.ZodType<MemberView>

const host = z.strictObject({
  name: z.string(),
  peerId: z.string(),
  vtep: z.string(),
  role,
  status: memberStatus.or(z.literal('unknown')),
  endpoints: count,
  version: z.string()
}) satisfies z.ZodType<HostView>

const namespace = z.strictObject({
  namespace: z.string(),
  network: z.string(),
  grants: z.array(z.string()).describe('Other networks that its pods may choose')
}) satisfies z.ZodType<NamespaceView>

const kvEntry = z.strictObject({
  key: z.string(),
  value: z.record(z.string(), z.unknown())
}) satisfies z.ZodType<KvEntryView>

const kvPage = z.strictObject({
  entries: z.array(kvEntry),
  next: z.string().nullable().describe('Give it as `after` for the next page; null on the last page')
}) satisfies z.ZodType<KvPageView>

const raftPeer = z.strictObject({
  name: z.string(),
  peerId: z.string(),
  address: z.string(),
  state: z.enum(['leader', 'follower', 'candidate', 'unknown']),
  voter: z.boolean(),
  matchIndex: counted
}) satisfies z.ZodType<RaftPeerView>

const status = z.strictObject({
  host: z.string(),
  peerId: z.string(),
  cluster: z.string().nullable(),
  version: z.string(),
  ready: z.boolean(),
  trouble: z.string().nullable().describe('Why this host cannot take part in its cluster; null if it can'),
  raft: z.strictObject({
    role: z.enum(['leader', 'follower', 'candidate', 'client', 'waiting']),
    term: count,
    leader: z.string().nullable(),
    commitIndex: count,
    appliedIndex: count
  }),
  members: z.strictObject({ alive: count, failed: count }),
  networks: count,
  endpoints: count,
  digest: z.string(),
  differsAt: counted,
  overlay: z.strictObject({
    driver: z.string(),
    guard: z.string().describe('By what the ports of containers and the VXLAN port are guarded: bpf, nft or off'),
    noPrograms: z.nullable(z.string()).describe('Why no eBPF programs run; null when they do, or are not to'),
    noServices: z
      .nullable(z.string())
      .describe('Why services do not work for the containers of this host; null when they do'),
    drift: count,
    degraded: z.array(z.string()),
    repaired: z.record(z.string(), count)
  })
}) satisfies z.ZodType<StatusView>

const reloaded = z.strictObject({
  changed: z.array(z.string()).describe('Keys that have taken their new value'),
  restart: z.array(z.string()).describe('Keys that differ but need a restart')
}) satisfies z.ZodType<ReloadView>

const doctor = z.strictObject({
  host: z.string(),
  failed: count.describe('Number of failed checks'),
  findings: z.array(
    z.strictObject({
      id: z.string().describe('Stable'),
      level: z.enum(['ok', 'warning', 'failed']),
      found: z.string(),
      todo: z.string().describe('What to do; empty if nothing')
    })
  )
}) satisfies z.ZodType<DoctorView>

const error = z.strictObject({
  error: z.strictObject({
    code: z.string().describe('Stable: docs/errors.md explains each'),
    message: z.string(),
    field: z.string().optional().describe('The invalid input field')
  })
})

export const VIEWS = {
  Status: status,
  Network: network,
  Endpoint: endpoint,
  Service: service,
  Member: member,
  Host: host,
  RaftPeer: raftPeer,
  Namespace: namespace,
  KvEntry: kvEntry,
  KvPage: kvPage,
  Cni: z.looseObject({}).describe('The CNI result or error object that the plugin prints'),
  Image: z.string().meta({ format: 'binary' }).describe('The bytes of a file for `vxmesh snapshot restore`'),
  Joined: z.strictObject({ joined: count }),
  Reloaded: reloaded,
  Doctor: doctor,
  Nothing: z.strictObject({}),
  Event: z
    .looseObject({ time: z.string(), kind: z.string() })
    .describe('One object per line; an empty line is a heartbeat'),
  Document: z.looseObject({ openapi: z.string() }),
  Error: error
} as const satisfies Readonly<Record<string, z.ZodType>>

export type ViewName = keyof typeof VIEWS
