// The configuration's schema: the source of its keys, defaults and rules (contract 6.2). The parsers of src/model validate
// values and give them their types. `meta.accepts` describes the accepted values in words; docs/configuration.md is
// generated from it and from the descriptions.

import * as z from 'zod'
import { parseDomain } from '#model/dns-name.ts'
import { asVxmeshError, invalid } from '#model/errors.ts'
import { parseHostName, quote } from '#model/ids.ts'
import {
  SUBNET_PREFIXES,
  formatSubnet,
  isIpv4,
  isTunnelAddress,
  parseIp,
  parsePrefix,
  parseSubnet,
  type Ip
} from '#model/ip.ts'
import { parseTransitRange } from '#model/ipv4.ts'
import { parseJoinAddress } from '#model/join-address.ts'
import { MTU_MAX, MTU_MIN } from '#model/quantity.ts'
import { formatSocketAddress, parsePortless, parseSocketAddress } from '#model/socket-address.ts'

/** Path of the API's UNIX socket, for the agent and its clients. */
export const DEFAULT_SOCKET = '/run/vxmesh/agent.sock'

/**
 * A value with its rule in words. The parser throws its own error, or returns undefined for a value that breaks the rule.
 * Numbers may arrive as text, from flags and variables.
 */
function value<T>(accepts: string, parse: (value: unknown) => T | undefined): z.ZodType<T> {
  return z
    .unknown()
    .transform((given, context) => {
      try {
        const parsed = parse(given)
        if (parsed !== undefined) return parsed
        context.addIssue({ code: 'custom', message: `must be ${accepts}, got ${quote(given)}` })
      } catch (err) {
        context.addIssue({ code: 'custom', message: asVxmeshError(err).message.replace(/^[^:]+: /, '') })
      }
      return z.NEVER
    })
    .meta({ accepts })
}

/** Text for a parser, whose error becomes the issue's message. */
const parsed = <T>(accepts: string, parse: (text: string) => T): z.ZodType<T> =>
  value(accepts, given => (typeof given === 'string' ? parse(given) : undefined))

const matching = (accepts: string, pattern: RegExp): z.ZodType<string> =>
  value(accepts, given => (typeof given === 'string' && pattern.test(given) ? given : undefined))

const choice = <const T extends string>(...choices: readonly T[]): z.ZodType<T> =>
  value(`one of ${choices.join(', ')}`, given => choices.find(one => one === given))

const number = (min: number, max: number): z.ZodType<number> =>
  value(`a whole number from ${min} to ${max}`, given => wholeNumber(given, min, max))

const port = (what: string): z.ZodType<number> => number(1, 65_535).describe(what)
const flag = value('true or false', given =>
  given === true || given === 'true' ? true : given === false || given === 'false' ? false : undefined
)
const path = matching('an absolute path', /^\/[^\0]*$/)
const address = parsed('an IPv4 or IPv6 address', underlayAddress)

const joins = value('a list of ADDRESS or ADDRESS:PORT (IPv6: [ADDRESS]:PORT), with commas outside the file', given => {
  const list: unknown = typeof given === 'string' ? given.split(',').filter(part => part !== '') : given
  if (!Array.isArray(list) || !list.every(item => typeof item === 'string')) return undefined
  return list.map(item => parseJoinAddress(item))
})

const paths = value('a list of absolute paths, with commas outside the file', given => {
  const list: unknown = typeof given === 'string' ? given.split(',').filter(part => part !== '') : given
  const isPath = (item: unknown): item is string => typeof item === 'string' && /^(\/[^/\0]+)+$/.test(item)
  if (!Array.isArray(list) || !list.every(isPath)) return undefined
  return list.some(item => item.split('/').some(part => part === '.' || part === '..')) ? undefined : list
})

const prefixes = value('a list of prefixes like 172.17.0.0/16, with commas outside the file', given => {
  const list: unknown = typeof given === 'string' ? given.split(',').filter(part => part !== '') : given
  if (!Array.isArray(list) || !list.every(item => typeof item === 'string')) return undefined
  return list.map(item => formatSubnet(parsePrefix(item)))
})

const texts = <T>(accepts: string, parse: (text: string) => T): z.ZodType<T[]> =>
  value(accepts, given => {
    const list: unknown = typeof given === 'string' ? given.split(',').filter(part => part !== '') : given
    if (!Array.isArray(list) || !list.every(item => typeof item === 'string')) return undefined
    return list.map(item => parse(item))
  })

/** Search domains that fit beside the network's own: resolv.conf(5) allows six. */
const SEARCH_MAX = 5
const domains = texts('a list of domains like corp.example, at most 5, with commas outside the file', text =>
  parseDomain(text)
).refine(list => list.length <= SEARCH_MAX, { error: `must be at most ${SEARCH_MAX} domains` })

const resolvers = texts('a list of ADDRESS or ADDRESS:PORT, with commas outside the file', text => {
  const { address: at, port: its } = parsePortless(text, 'address')
  return formatSocketAddress({ address: at, port: its ?? 53 })
})

const users = value('a list of user numbers, with commas outside the file', given => {
  const list: unknown = typeof given === 'string' ? given.split(',').filter(part => part !== '') : given
  if (!Array.isArray(list)) return undefined
  const numbers = list.map(item => wholeNumber(item, 0, 0xffff_fffe))
  return numbers.every(number => number !== undefined) ? numbers : undefined
})

const listen = parsed('ADDRESS:PORT', listenAddress)
/** sockaddr_un holds 108 bytes including the terminating zero. */
const MAX_SOCKET_PATH = 107
const zmqUrl = parsed('a URL like tcp://127.0.0.1:30027 or ipc:///run/vxmesh/requests.sock', text => {
  const [, scheme, rest = ''] = /^(tcp|ipc):\/\/(.+)$/.exec(text) ?? []
  if (scheme === 'tcp') return `tcp://${listenAddress(rest)}`
  return rest.startsWith('/') && Buffer.byteLength(rest) <= MAX_SOCKET_PATH ? text : undefined
})

/** For the compiler alone: marks the schema of a reloadable key. */
declare const RELOADABLE: unique symbol
type Reloadable = { readonly [RELOADABLE]: true }

/** Marks a key that a reload changes; all others need a restart. */
const reloadable = <T extends z.ZodType>(schema: T): T & Reloadable =>
  schema.meta({ reloadable: true }) as T & Reloadable

export const configShape = z.strictObject({
  name: parsed('a DNS label: lower-case letters, digits and "-"', text => parseHostName(text)).describe(
    'Name of this host in the mesh; default: the host name up to its first dot'
  ),
  role: choice('server', 'client').default('client').describe('server: votes in Raft; client: any other host'),
  bootstrapExpect: number(1, 9).default(3).describe('Servers: found the cluster once this many servers see each other'),
  join: reloadable(joins.default([]).describe('Serf addresses of other hosts; retried forever')),
  bind: address.describe(
    'Underlay address for Serf, libp2p and the VTEP; required. All hosts of a cluster have one of the same family'
  ),
  dataDir: path.default('/var/lib/vxmesh').describe('Directory of the persistent state'),
  collectAfter: reloadable(
    number(0, 86_400)
      .default(60)
      .describe('Seconds until the endpoint of a vanished container is released; 0: never automatically')
  ),
  socket: path.default(DEFAULT_SOCKET).describe('UNIX socket of the API; also VXMESH_SOCKET for the CLI'),
  clusterKeyFile: path
    .default('/etc/vxmesh/cluster.key')
    .describe('File created with `vxmesh keygen`, readable by root only'),
  insecure: flag.default(false).describe('true: start without a cluster key; any host on the underlay can join'),
  serf: z
    .strictObject({
      port: port('TCP and UDP port of gossip').default(7946),
      rpcPort: port('Loopback TCP port of Serf’s RPC').default(7373),
      binary: matching('a path or the name of a program', /^[^\0]+$/)
        .default('serf')
        .describe('The serf executable')
    })
    .prefault({}),
  p2p: z.strictObject({ port: port('TCP port of libp2p').default(7947) }).prefault({}),
  overlay: z
    .strictObject({
      driver: choice('auto', 'bpf', 'linux', 'ovs')
        .default('auto')
        .describe(
          'The data plane: bpf (eBPF programs, with kernel bridges and VXLAN for the rest), linux (those alone) or ovs (Open vSwitch); auto: bpf where the kernel can and the underlay is IPv4, or else linux'
        ),
      ovs: z
        .strictObject({
          socket: path
            .default('/run/openvswitch/db.sock')
            .describe('UNIX socket of ovsdb-server; the bridges’ sockets are in the same directory'),
          datapath: choice('system', 'netdev')
            .default('system')
            .describe('Where Open vSwitch forwards packets: system (in the kernel) or netdev (in user space)')
        })
        .prefault({}),
      vtep: address
        .optional()
        .describe('Tunnel address; default: `bind`. On a client host, any other needs `overlay.vteps` of the servers'),
      vteps: reloadable(
        prefixes
          .default([])
          .describe(
            'On every server: prefixes in which a client host may have a tunnel address that it is not connected from'
          )
      ),
      port: port('UDP port of VXLAN').default(4789),
      mtu: reloadable(
        value(`auto, or a whole number from ${MTU_MIN} to ${MTU_MAX}`, given =>
          given === 'auto' ? 'auto' : wholeNumber(given, MTU_MIN, MTU_MAX)
        )
          .default('auto')
          .describe('MTU of containers; auto: that of the underlay less 50, or less 70 over IPv6')
      ),
      transit: parsed('a /8 like 240.0.0.0/8', text => formatSubnet(parseTransitRange(text)))
        .default('240.0.0.0/8')
        .describe(
          'Range of the routers’ transit addresses, by VNI; visible only on this host, where nothing else may use it'
        ),
      guard: choice('auto', 'bpf', 'nft', 'off', 'required')
        .default('auto')
        .describe(
          'Port security and protection of the VXLAN port, by eBPF programs or nftables; auto, once called required: bpf where the kernel can and the underlay is IPv4, or else nft. Unless off, the agent does not start without them'
        )
    })
    .prefault({}),
  egress: z
    .strictObject({
      local: reloadable(
        prefixes
          .default([])
          .describe(
            'Networks of this host itself, such as docker0’s, that containers may reach; others are closed to them'
          )
      )
    })
    .prefault({}),
  dns: z
    .strictObject({
      enabled: flag.default(true).describe('Whether the routers of networks resolve names'),
      zone: parsed('a domain like vxmesh', text => parseDomain(text))
        .default('vxmesh')
        .describe('Zone of the names NAME.NETWORK.ZONE; must be the same on every host'),
      search: reloadable(
        domains
          .default([])
          .describe(
            'Search domains of containers, after that of their network; the CNI result and the endpoint carry them'
          )
      ),
      upstreams: reloadable(
        resolvers
          .default([])
          .describe('Resolvers that are asked for other names; default: those of the host’s /etc/resolv.conf')
      ),
      forward: reloadable(
        flag.default(true).describe('Whether networks with egress resolve other names than their own')
      ),
      queryRate: number(10, 100_000)
        .default(500)
        .describe(
          'Queries a second that a container may send; all of a network on this host may send ten times as many'
        ),
      cacheBytes: number(0, 16_777_216)
        .default(262_144)
        .describe('Bytes of other names’ answers that are kept for each network of this host')
    })
    .prefault({}),
  namespaces: z
    .strictObject({
      unmapped: reloadable(
        choice('refuse', 'create')
          .default('refuse')
          .describe('Pods of an unmapped namespace: refuse them, or create a network for the namespace')
      ),
      range: reloadable(
        parsed('a subnet like 10.128.0.0/10', text => formatSubnet(parseSubnet(text)))
          .default('10.128.0.0/10')
          .describe('Range of the subnets of created networks; must be the same on every host')
      ),
      prefixLength: reloadable(
        number(...SUBNET_PREFIXES.ipv4)
          .default(24)
          .describe('Prefix length of created networks; at most 16 more than that of the range')
      )
    })
    .prefault({}),
  netns: z
    .strictObject({
      paths: paths
        .default(['/run/netns', '/run/docker/netns'])
        .describe(
          'Directories of container runtimes’ network namespaces; only those below, and /proc/PID/ns/net, are attached. /var/run counts as /run'
        )
    })
    .prefault({}),
  zmq: z
    .strictObject({
      requests: zmqUrl.default('tcp://127.0.0.1:30027').describe('SUB socket for requests'),
      events: zmqUrl.default('tcp://127.0.0.1:30028').describe('PUB socket for answers and changes'),
      rpc: zmqUrl.default('tcp://127.0.0.1:30029').describe('ROUTER socket for requests with an individual answer'),
      users: users
        .default([])
        .describe(
          'Numbers of the users whose processes may connect on loopback without a key, beside root’s and the agent’s'
        ),
      secretKeyFile: path
        .optional()
        .describe('CURVE secret key of the sockets, readable by root only; required beyond loopback'),
      allowedKeysFile: path
        .optional()
        .describe('CURVE public keys of the allowed clients, one per line; required beyond loopback')
    })
    .prefault({}),
  raft: z
    .strictObject({
      snapshotBytes: number(4_096, 999_999_999)
        .default(4_194_304)
        .describe('Bytes of log entries after which a snapshot is taken and the log before it is dropped')
    })
    .prefault({}),
  http: z
    .strictObject({ listen: reloadable(listen.default('127.0.0.1:7380').describe('Address for metrics and health')) })
    .prefault({}),
  log: z
    .strictObject({
      level: reloadable(
        choice('trace', 'debug', 'info', 'warn', 'error', 'silent')
          .default('info')
          .describe('The lowest level that is logged')
      ),
      format: choice('json').default('json').describe('One JSON object per line, on stderr')
    })
    .prefault({})
})

export const configSchema = configShape.transform(config => ({
  ...config,
  overlay: { ...config.overlay, vtep: config.overlay.vtep ?? config.bind }
}))

export type Config = Readonly<z.output<typeof configSchema>>

type ReloadableIn<Shape, Prefix extends string> = {
  [Name in keyof Shape & string]: Shape[Name] extends Reloadable
    ? `${Prefix}${Name}`
    : Shape[Name] extends z.ZodPrefault<z.ZodObject<infer Inner>>
      ? ReloadableIn<Inner, `${Prefix}${Name}.`>
      : never
}[keyof Shape & string]

/** The dotted keys that are declared `reloadable`. */
export type ReloadableKey = ReloadableIn<(typeof configShape)['shape'], ''>

type Fallback = string | number | boolean | readonly string[] | undefined

/** A key's documentation, apart from its parser. */
export type KeyFacts = {
  readonly key: string
  /** The accepted values, in words. */
  readonly accepts: string
  readonly description: string
  /** Undefined if there is no fixed default. */
  readonly fallback: Fallback
  /** Whether a reload changes it while the agent runs. */
  readonly change: 'reloadable' | 'restart'
}

/** Every key in dotted form, in the schema's order. */
export const KEY_FACTS: readonly KeyFacts[] = factsOf(configShape, '')

function factsOf(object: z.ZodObject, prefix: string): KeyFacts[] {
  return Object.entries(object.shape).flatMap(([name, schema]) => {
    const key = `${prefix}${name}`
    const layers = layersOf(schema as z.ZodType)
    const inner = layers.find(layer => layer instanceof z.ZodObject)
    if (inner !== undefined) return factsOf(inner, `${key}.`)
    const meta = layers.map(layer => (layer.meta() ?? {}) as Record<string, unknown>)
    const fallback = layers.find(layer => layer instanceof z.ZodDefault)?.def.defaultValue as Fallback
    const known = (what: string): string => meta.map(facts => facts[what]).find(text => typeof text === 'string') ?? ''
    const change = meta.some(facts => facts['reloadable'] === true) ? 'reloadable' : 'restart'
    return [{ key, accepts: known('accepts'), description: known('description'), fallback, change }]
  })
}

/** A schema and the schemas that it wraps, outermost first. */
function layersOf(schema: z.ZodType): z.ZodType[] {
  const wraps = schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault || schema instanceof z.ZodOptional
  return wraps ? [schema, ...layersOf(schema.def.innerType as z.ZodType)] : [schema]
}

function wholeNumber(given: unknown, min: number, max: number): number | undefined {
  const n = typeof given === 'string' && /^[0-9]{1,9}$/.test(given) ? Number(given) : given
  return typeof n === 'number' && Number.isInteger(n) && n >= min && n <= max ? n : undefined
}

/** In canonical form. */
function listenAddress(text: string): string {
  return formatSocketAddress(parseSocketAddress(text, 'address'))
}

/** Other hosts must reach it, so an IPv6 address that is valid on one link only is refused. */
function underlayAddress(text: string): Ip {
  const ip = parseIp(text.replace(/^([^%]*:[^%]*)%.*$/s, '$1'))
  if (isIpv4(ip) || (isTunnelAddress(ip) && !text.includes('%'))) return ip
  const what = 'must be a unicast address that is valid beyond one link, such as a unique local one'
  throw invalid('address', `${what}, got ${quote(text)}`)
}
