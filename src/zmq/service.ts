// Answers the paper's requests by calling the agent: a message in, a message out. Knows no sockets and no ordering.

import { createHash } from 'node:crypto'
import { asAddresses, asSubnets } from '#model/addresses.ts'
import type { AgentPort } from '#model/agent-port.ts'
import { asVxmeshError, ERROR_CODES, invalid, VxmeshError } from '#model/errors.ts'
import { parseContainerId, parseIfName, parseNetworkName, parseVni } from '#model/ids.ts'
import { formatIp, parseIp, parseSubnet, subnetContains } from '#model/ip.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import { checkDelay, checkRate } from '#model/quantity.ts'
import { ENDPOINT_DEFAULTS, NETWORK_DEFAULTS } from '#model/settings.ts'
import type { EndpointView, NetworkView, PageView } from '#model/views.ts'
import { netnsOfPid, PID_LIMIT } from '#platform/netns.ts'
import { connectionOf, tenantNetworkOf, type InterfaceIndex } from './answers.ts'
import { parseDetail, parseDetailChanges, type Detail } from './detail.ts'
import {
  ANSWER,
  type TypedRequest,
  encodeConnection,
  encodeError,
  encodeMessage,
  encodeNetwork,
  type Connection,
  type TenantNetwork,
  type ZmqRequest
} from './message.ts'
import { parseServiceDetail } from './service-detail.ts'
import { carryOutService } from './services.ts'

/** The part of the agent that the ZeroMQ API uses. */
export type ZmqPort = Pick<
  AgentPort,
  | 'endpointAttach'
  | 'endpointDetach'
  | 'endpointShow'
  | 'endpointUpdate'
  | 'networkCreate'
  | 'networkDelete'
  | 'networkList'
  | 'networkShow'
  | 'serviceCreate'
  | 'serviceDelete'
  | 'serviceShow'
  | 'watch'
>

/** Characters of a text of the request that an answer returns unchecked. */
const MAX_ECHO = 512
/** Networks read at once. */
const PAGE = 1_000
const CHANGEABLE = 'labels, ingressRate, egressRate, delayUs'
const DEFAULT_IFNAME = parseIfName('eth0')

export class ZmqService {
  readonly #agent: ZmqPort
  readonly #interfaceIndex: InterfaceIndex

  constructor(agent: ZmqPort, interfaceIndex: InterfaceIndex) {
    this.#agent = agent
    this.#interfaceIndex = interfaceIndex
  }

  /** Never rejects: an error is answered with an error message. */
  async answer(typed: TypedRequest): Promise<Buffer> {
    try {
      return encodeMessage(typed.type + ANSWER, await this.#carryOut(typed.request))
    } catch (thrown) {
      return errorMessage(asVxmeshError(thrown), typed)
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
      case 'connection-update':
        return this.#update(request.connection)
      case 'network-create':
        return this.#createNetwork(request.network)
      case 'network-delete': {
        const name = parseNetworkName(request.network.name)
        return networkData(await this.#agent.networkDelete(name, false))
      }
      case 'network-query':
        return networkData(await this.#agent.networkShow(parseNetworkName(request.network.name)))
      case 'service-create':
      case 'service-delete':
      case 'service-query':
        return carryOutService(this.#agent, request)
    }
  }

  async #create(connection: Connection): Promise<Buffer> {
    const detail = parseDetail(connection.connDetail)
    const network = await this.#networkOf(connection.network, detail)
    if (detail.gateway !== undefined && !network.gateways.includes(formatIp(detail.gateway))) {
      throw invalid('ConnDetail.gateway', `the gateway of network ${network.name} is ${network.gateways.join(' and ')}`)
    }
    const { ingressRate, egressRate, mac, requestId, addresses = [], labels } = detail
    const requestIp = connection.requestIp === 0 ? [] : [connection.requestIp as Ipv4]
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
      ...asAddresses([...requestIp, ...addresses], 'ConnDetail.addresses'),
      ...(connection.ovsPortId > 0 ? { portNumber: connection.ovsPortId } : {}),
      ...(mac === undefined ? {} : { mac }),
      ...(requestId === undefined ? {} : { requestId }),
      ...(labels === undefined ? {} : { labels })
    })
    return this.#connectionData({ connection, detail, endpoint, network })
  }

  async #delete(connection: Connection): Promise<Buffer> {
    const detail = parseDetail(connection.connDetail)
    const id = parseContainerId(connection.id, 'ID')
    // Read before the detach: the answer has the last counters.
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

  /** Changes what the detail gives. In the fixed fields 0 means both unlimited and not given: they must be 0. */
  async #update(connection: Connection): Promise<Buffer> {
    const detail = parseDetailChanges(connection.connDetail)
    if (connection.bandwidth !== 0)
      throw invalid('Bandwidth', 'must be 0 in an update: give ConnDetail.ingressRate or egressRate')
    if (connection.delay !== 0) throw invalid('Delay', 'must be 0 in an update: give ConnDetail.delayUs')
    const { ifname: _, requestId: __, ...changes } = detail
    if (Object.keys(changes).length === 0) throw invalid('ConnDetail', `must give at least one of ${CHANGEABLE}`)
    const { ifname } = await this.#endpoint(connection, detail)
    const id = parseContainerId(connection.id, 'ID')
    const endpoint = await this.#agent.endpointUpdate(id, parseIfName(ifname), changes)
    const network = await this.#agent.networkShow(parseNetworkName(endpoint.network))
    return this.#connectionData({ connection, detail, endpoint, network })
  }

  /** The container's only endpoint, or that of the interface in the detail. */
  async #endpoint(connection: Connection, { ifname }: Pick<Detail, 'ifname'>): Promise<EndpointView> {
    const id = parseContainerId(connection.id, 'ID')
    const found = await (ifname === undefined ? this.#agent.endpointShow(id) : this.#agent.endpointShow(id, ifname))
    const [endpoint, another] = found
    if (endpoint === undefined) throw new VxmeshError('ERR_ENDPOINT_NOT_FOUND', `container ${id} has no endpoint`)
    if (another === undefined) return endpoint
    const names = found.map(row => row.ifname).join(', ')
    throw invalid('ConnDetail.ifname', `is required: container ${id} has ${names}`)
  }

  /** The network by the name in the detail, or by an address in its subnet; with neither, the only network. */
  async #networkOf(number: number, { network: name }: Detail): Promise<NetworkView> {
    if (name !== undefined) return this.#agent.networkShow(name)
    const matching = await this.#networks(
      ({ subnet }) => number === 0 || subnetContains(parseSubnet(subnet), number as Ipv4)
    )
    const [network, another] = matching
    if (network !== undefined && another === undefined) return network
    if (network === undefined) {
      throw new VxmeshError('ERR_NETWORK_NOT_FOUND', 'Network: no network has this address', {
        field: 'Network'
      })
    }
    const names = matching
      .map(row => row.name)
      .slice(0, 5)
      .join(', ')
    throw invalid('Network', `${matching.length} networks match (${names}): name one in ConnDetail.network`)
  }

  async #networks(matches: (network: NetworkView) => boolean): Promise<readonly NetworkView[]> {
    const matching: NetworkView[] = []
    let token: string | null = null
    do {
      const page: PageView<NetworkView> = await this.#agent.networkList({ limit: PAGE, continue: token })
      matching.push(...page.items.filter(matches))
      token = page.continue
    } while (token !== null)
    return matching
  }

  async #createNetwork(requested: TenantNetwork): Promise<Buffer> {
    const network = await this.#agent.networkCreate({
      name: parseNetworkName(requested.name),
      ...asSubnets(
        requested.subnet.split(',').map(text => parseSubnet(text)),
        'subnet'
      ),
      ...NETWORK_DEFAULTS,
      egressRate: checkRate(requested.egressBandwidth * 1_000, 'egressBandwidth'),
      // A repeated request gets the same network, also through another agent.
      requestId: `zmq ${createHash('sha256').update(encodeNetwork(requested)).digest('hex').slice(0, 32)}`,
      ...(requested.gateway === '' ? {} : { gateway: parseIp(requested.gateway, 'gateway') }),
      ...(requested.vni === 0 ? {} : { vni: parseVni(requested.vni) })
    })
    return networkData(network)
  }

  #connectionData(p: {
    readonly connection: Connection
    readonly detail: Pick<Detail, 'netns' | 'requestId'>
    readonly endpoint: EndpointView
    readonly network: NetworkView
  }): Buffer {
    const { id, pid } = p.connection
    const connection = { id, pid: clip(pid) }
    return encodeConnection(connectionOf({ ...p, connection, interfaceIndex: this.#interfaceIndex }))
  }
}

/** The answer to a failed request; null for one that could not be decoded. */
export function errorMessage(err: VxmeshError, request: TypedRequest | null): Buffer {
  const subject = request === null ? null : { msgType: request.type, ...subjectOf(request.request) }
  return encodeError({
    code: ERROR_CODES[err.code].http,
    message: clip(err.message),
    detail: { ...err.toBody(), message: clip(err.message), request: subject }
  })
}

function subjectOf(request: ZmqRequest): Record<string, unknown> {
  if ('network' in request) return { name: clip(request.network.name) }
  if ('service' in request) {
    const { name, network, serviceDetail } = request.service
    return { name: clip(name), network: clip(network), requestId: requestIdOf(serviceDetail, parseServiceDetail) }
  }
  const { id, connDetail } = request.connection
  const parse = request.kind === 'connection-update' ? parseDetailChanges : parseDetail
  return { id: clip(id), requestId: requestIdOf(connDetail, parse) }
}

/** Truncates a text of the request, which may have 16 KiB, for an answer, which goes to every subscriber. */
function clip(text: string): string {
  return text.length <= MAX_ECHO ? text : `${text.slice(0, MAX_ECHO)}...`
}

/** For the error message; null when the detail cannot be parsed. */
function requestIdOf(connDetail: string, parse: (json: string) => Pick<Detail, 'requestId'>): string | null {
  try {
    return parse(connDetail).requestId ?? null
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
