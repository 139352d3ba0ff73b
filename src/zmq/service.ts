// The paper's requests, answered by the agent: a message in, a message out. No socket and no order here.

import { createHash } from 'node:crypto'
import type { AgentPort } from '#api/agent-port.ts'
import { asVxmeshError, ERROR_CODES, invalid, VxmeshError } from '#model/errors.ts'
import { parseContainerId, parseIfName, parseNetworkName, parseVni } from '#model/ids.ts'
import { parseIpv4, parseSubnet, subnetContains, type Ipv4 } from '#model/ipv4.ts'
import { checkDelay, checkRate } from '#model/quantity.ts'
import { ENDPOINT_DEFAULTS, NETWORK_DEFAULTS } from '#model/settings.ts'
import type { EndpointView, NetworkView } from '#model/views.ts'
import { netnsOfPid, PID_LIMIT } from '#platform/netns.ts'
import { connectionOf, tenantNetworkOf, type InterfaceIndex } from './answers.ts'
import { parseDetail, type Detail } from './detail.ts'
import {
  ANSWER,
  type Asked,
  encodeConnection,
  encodeError,
  encodeMessage,
  encodeNetwork,
  type Connection,
  type TenantNetwork,
  type ZmqRequest
} from './message.ts'

/** What this door asks of the agent. */
export type ZmqPort = Pick<
  AgentPort,
  | 'endpointAttach'
  | 'endpointDetach'
  | 'endpointShow'
  | 'networkCreate'
  | 'networkDelete'
  | 'networkList'
  | 'networkShow'
  | 'watch'
>

const DEFAULT_IFNAME = parseIfName('eth0')

export class ZmqService {
  readonly #agent: ZmqPort
  readonly #interfaceIndex: InterfaceIndex

  constructor(agent: ZmqPort, interfaceIndex: InterfaceIndex) {
    this.#agent = agent
    this.#interfaceIndex = interfaceIndex
  }

  /** Never rejects: what went wrong is the answer. */
  async answer(asked: Asked): Promise<Buffer> {
    try {
      return encodeMessage(asked.type + ANSWER, await this.#carryOut(asked.request))
    } catch (thrown) {
      return errorMessage(asVxmeshError(thrown), asked)
    }
  }

  async #carryOut(request: ZmqRequest): Promise<Buffer> {
    switch (request.kind) {
      case 'connection-create':
        return this.#create(request.connection)
      case 'connection-delete':
        return this.#delete(request.connection)
      case 'connection-query':
        return this.#query(request.connection)
      case 'network-create':
        return this.#createNetwork(request.network)
      case 'network-delete': {
        const name = parseNetworkName(request.network.name)
        return networkData(await this.#agent.networkDelete(name, false))
      }
      case 'network-query':
        return networkData(await this.#agent.networkShow(parseNetworkName(request.network.name)))
    }
  }

  async #create(connection: Connection): Promise<Buffer> {
    const detail = parseDetail(connection.connDetail)
    const network = await this.#networkOf(connection.network, detail)
    if (detail.gateway !== undefined && detail.gateway !== parseIpv4(network.gateway)) {
      throw invalid('ConnDetail.gateway', `the gateway of network ${network.name} is ${network.gateway}`)
    }
    const { ingressRate, egressRate, mac, requestId } = detail
    const both = checkRate(connection.bandwidth * 1_000, 'Bandwidth')
    const endpoint = await this.#agent.endpointAttach({
      network: parseNetworkName(network.name),
      containerId: parseContainerId(connection.id, 'ID'),
      ifname: detail.ifname ?? DEFAULT_IFNAME,
      name: connection.name,
      netns: detail.netns ?? netnsOf(connection.pid),
      ...ENDPOINT_DEFAULTS,
      ingressRate: ingressRate ?? both,
      egressRate: egressRate ?? both,
      delayUs: detail.delayUs ?? checkDelay(connection.delay * 1_000, 'Delay'),
      ...(connection.requestIp === 0 ? {} : { address: connection.requestIp as Ipv4 }),
      ...(connection.ovsPortId > 0 ? { portNumber: connection.ovsPortId } : {}),
      ...(mac === undefined ? {} : { mac }),
      ...(requestId === undefined ? {} : { requestId })
    })
    return this.#connectionData({ connection, detail, endpoint, network })
  }

  async #delete(connection: Connection): Promise<Buffer> {
    const detail = parseDetail(connection.connDetail)
    const id = parseContainerId(connection.id, 'ID')
    // As it is before it goes: the answer tells its last counters.
    const endpoint = await this.#endpoint(connection, detail)
    const network = await this.#agent.networkShow(parseNetworkName(endpoint.network))
    await this.#agent.endpointDetach(id, parseIfName(endpoint.ifname))
    return this.#connectionData({ connection, detail, endpoint, network })
  }

  async #query(connection: Connection): Promise<Buffer> {
    const detail = parseDetail(connection.connDetail)
    const endpoint = await this.#endpoint(connection, detail)
    const network = await this.#agent.networkShow(parseNetworkName(endpoint.network))
    return this.#connectionData({ connection, detail, endpoint, network })
  }

  /** The container's one endpoint, or the one of the interface that the detail names. */
  async #endpoint(connection: Connection, { ifname }: Detail): Promise<EndpointView> {
    const id = parseContainerId(connection.id, 'ID')
    const found = await (ifname === undefined ? this.#agent.endpointShow(id) : this.#agent.endpointShow(id, ifname))
    const [endpoint, another] = found
    if (endpoint === undefined) throw new VxmeshError('ERR_ENDPOINT_NOT_FOUND', `container ${id} has no endpoint`)
    if (another === undefined) return endpoint
    const names = found.map(row => row.ifname).join(', ')
    throw invalid('ConnDetail.ifname', `is needed: container ${id} has ${names}`)
  }

  /** By the name in the detail, or by any address of its subnet; with neither, the only network that there is. */
  async #networkOf(number: number, { network: name }: Detail): Promise<NetworkView> {
    if (name !== undefined) return this.#agent.networkShow(name)
    const all = await this.#agent.networkList()
    const matching =
      number === 0 ? all : all.filter(({ subnet }) => subnetContains(parseSubnet(subnet), number as Ipv4))
    const [network, another] = matching
    if (network !== undefined && another === undefined) return network
    if (network === undefined) {
      throw new VxmeshError('ERR_NETWORK_NOT_FOUND', 'Network: there is no network of this number', {
        field: 'Network'
      })
    }
    const names = matching
      .map(row => row.name)
      .slice(0, 5)
      .join(', ')
    throw invalid('Network', `${matching.length} networks match (${names}): name one in ConnDetail.network`)
  }

  async #createNetwork(asked: TenantNetwork): Promise<Buffer> {
    const network = await this.#agent.networkCreate({
      name: parseNetworkName(asked.name),
      subnet: parseSubnet(asked.subnet),
      ...NETWORK_DEFAULTS,
      egressRate: checkRate(asked.egressBandwidth * 1_000, 'egressBandwidth'),
      // The same request again is the same network, also from another platform or at another agent.
      requestId: `zmq ${createHash('sha256').update(encodeNetwork(asked)).digest('hex').slice(0, 32)}`,
      ...(asked.gateway === '' ? {} : { gateway: parseIpv4(asked.gateway, 'gateway') }),
      ...(asked.vni === 0 ? {} : { vni: parseVni(asked.vni) })
    })
    return networkData(network)
  }

  #connectionData(p: {
    readonly connection: Connection
    readonly detail: Detail
    readonly endpoint: EndpointView
    readonly network: NetworkView
  }): Buffer {
    return encodeConnection(connectionOf({ ...p, interfaceIndex: this.#interfaceIndex }))
  }
}

/** The answer to a request that could not be carried out, or (null) not be read. */
export function errorMessage(err: VxmeshError, asked: Asked | null): Buffer {
  const of = asked === null ? null : { msgType: asked.type, ...subject(asked.request) }
  return encodeError({
    code: ERROR_CODES[err.code].http,
    message: err.message,
    detail: { ...err.toBody(), request: of }
  })
}

function subject(request: ZmqRequest): Record<string, unknown> {
  if (!('connection' in request)) return { name: request.network.name }
  const { id, connDetail } = request.connection
  return { id, requestId: requestIdOf(connDetail) }
}

/** Only to be told back: a detail that cannot be read has none. */
function requestIdOf(connDetail: string): string | null {
  try {
    return parseDetail(connDetail).requestId ?? null
  } catch {
    return null
  }
}

function networkData(network: NetworkView): Buffer {
  return encodeNetwork(tenantNetworkOf(network))
}

function netnsOf(pid: string): string {
  const number = /^[1-9][0-9]{0,6}$/.test(pid) ? Number(pid) : NaN
  if (!(number < PID_LIMIT)) throw invalid('PID', 'must be a process id as decimal text, or ConnDetail.netns a path')
  return netnsOfPid(number)
}
