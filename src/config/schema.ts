// The configuration's schema: the one source of its keys, defaults and rules (contract 6.2). Values are checked by the
// parsers of src/model and come out in their types.

import { z } from 'zod'
import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import { parseHostName } from '#model/ids.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { MTU_MAX, MTU_MIN } from '#model/network.ts'

/** A text that a parser turns into a value; its refusal becomes the issue's message. */
function parsed<T>(parse: (text: string) => T): z.ZodType<T, string> {
  return z.string().transform((text, context) => {
    try {
      return parse(text)
    } catch (err) {
      context.addIssue({ code: 'custom', message: asVxmeshError(err).message.replace(/^[^:]+: /, '') })
      return z.NEVER
    }
  })
}

const number = (min: number, max: number): z.ZodType<number> =>
  z
    .union([
      z.number(),
      z
        .string()
        .regex(/^[0-9]{1,9}$/, 'must be a whole number')
        .transform(Number)
    ])
    .pipe(
      z.number().int('must be a whole number').min(min, `must be ${min} to ${max}`).max(max, `must be ${min} to ${max}`)
    )
const port = (what: string): z.ZodType<number> => number(1, 65_535).describe(what)
const flag = z.union([z.boolean(), z.enum(['true', 'false']).transform(text => text === 'true')])
const path = z.string().min(1, 'must not be empty').regex(/^\//, 'must be an absolute path')

/** `address` or `address:port`; the port defaults to Serf's own. */
function parseJoin(text: string): string {
  const [address = '', joinPort, ...rest] = text.split(':')
  parseIpv4(address)
  if (rest.length > 0 || (joinPort !== undefined && !isPort(joinPort))) {
    throw new VxmeshError('ERR_CONFIG', `join: must be ADDRESS or ADDRESS:PORT, got "${text}"`)
  }
  return text
}

function isPort(text: string): boolean {
  return /^[1-9][0-9]{0,4}$/.test(text) && Number(text) <= 65_535
}

const joins = z
  .union([z.array(z.string()), z.string().transform(text => text.split(',').filter(part => part !== ''))])
  .pipe(z.array(parsed(parseJoin)))

const listen = z.string().regex(/^(?:\d{1,3}\.){3}\d{1,3}:\d{1,5}$/, 'must be ADDRESS:PORT')
const tcpUrl = z.string().regex(/^tcp:\/\/(?:\d{1,3}\.){3}\d{1,3}:\d{1,5}$/, 'must be like tcp://127.0.0.1:30027')

export const configSchema = z
  .strictObject({
    name: parsed(text => parseHostName(text)).describe('Name of this host in the mesh; default: the host name'),
    role: z.enum(['server', 'client']).default('client').describe('server: votes in Raft; client: any other host'),
    bootstrapExpect: number(1, 9).default(3).describe('Servers: found the cluster once so many servers see each other'),
    join: joins.default([]).describe('Serf addresses of other hosts, ADDRESS or ADDRESS:PORT; retried for ever'),
    bind: parsed(text => parseIpv4(text)).describe('Underlay address for Serf, libp2p and the VTEP; required'),
    dataDir: path.default('/var/lib/vxmesh').describe('Directory of what must survive a restart'),
    socket: path.default('/run/vxmesh/agent.sock').describe('UNIX socket of the API; also VXMESH_SOCKET for the CLI'),
    clusterKeyFile: path
      .default('/etc/vxmesh/cluster.key')
      .describe('File made by `vxmesh keygen`, readable by root alone'),
    insecure: flag.default(false).describe('true: start without a cluster key; anybody on the underlay can join'),
    serf: z
      .strictObject({
        port: port('TCP and UDP port of gossip').default(7946),
        rpcPort: port('Loopback TCP port of Serf’s RPC').default(7373),
        binary: z.string().min(1).default('serf').describe('Path or name of the serf program')
      })
      .prefault({}),
    p2p: z.strictObject({ port: port('TCP port of libp2p').default(7947) }).prefault({}),
    overlay: z
      .strictObject({
        driver: z.enum(['linux', 'ovs']).default('linux').describe('Kernel backend'),
        vtep: parsed(text => parseIpv4(text))
          .optional()
          .describe('Tunnel address; default: bind'),
        port: port('UDP port of VXLAN').default(4789),
        mtu: z
          .union([z.literal('auto'), number(MTU_MIN, MTU_MAX)])
          .default('auto')
          .describe('MTU of containers; auto: the underlay’s less 50')
      })
      .prefault({}),
    zmq: z
      .strictObject({
        requests: tcpUrl.default('tcp://127.0.0.1:30027').describe('SUB socket of requests'),
        events: tcpUrl.default('tcp://127.0.0.1:30028').describe('PUB socket of answers and changes'),
        rpc: tcpUrl.default('tcp://127.0.0.1:30029').describe('ROUTER socket of requests with an answer each')
      })
      .prefault({}),
    http: z.strictObject({ listen: listen.default('127.0.0.1:7380').describe('Metrics and health') }).prefault({}),
    log: z
      .strictObject({
        level: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']).default('info'),
        format: z.enum(['json']).default('json')
      })
      .prefault({})
  })
  .transform(config => ({ ...config, overlay: { ...config.overlay, vtep: config.overlay.vtep ?? config.bind } }))

export type Config = Readonly<z.output<typeof configSchema>>
