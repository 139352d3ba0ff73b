// Codec of the paper's messages (contract 6.5): a header with length of the data and type, then the data. Pure.

import { invalid } from '#model/errors.ts'
import { FieldReader, FieldWriter } from './bytes.ts'

export const HEADER_BYTES = 8
/** The largest accepted message; the limits of a connection's texts are far below. */
export const MAX_MESSAGE_BYTES = 64 * 1024
/** Larger messages are no part of Node's pool: one that waits for a slow peer would keep all 64 KiB of the pool. */
const POOLED_BYTES = 2 * 1024

/** Requests by type number; an answer's number is that of its request plus ANSWER. */
export const REQUESTS = {
  1: 'connection-create',
  2: 'connection-delete',
  3: 'connection-query',
  4: 'connection-update',
  11: 'network-create',
  12: 'network-delete',
  13: 'network-query',
  21: 'service-create',
  22: 'service-delete',
  23: 'service-query'
} as const
export const ANSWER = 100
export const ERROR_TYPE = 199

export type RequestType = keyof typeof REQUESTS
export type RequestKind = (typeof REQUESTS)[RequestType]

/** The paper's SZmqConnection. Addresses are numbers (10.0.0.5 = 0x0A000005), rates kbit/s, delay ms, totals bytes. */
export type Connection = {
  readonly id: string
  readonly name: string
  /** Decimal text. */
  readonly pid: string
  readonly requestIp: number
  readonly network: number
  readonly ovsPortId: number
  readonly bandwidth: number
  readonly delay: number
  readonly rxTotal: number
  readonly txTotal: number
  readonly rxRate: number
  readonly txRate: number
  /** JSON. */
  readonly connDetail: string
}

/** The paper's TenantNetwork, its VNI widened, with the egress bandwidth in kbit/s. */
export type TenantNetwork = {
  readonly name: string
  readonly subnet: string
  readonly gateway: string
  readonly vni: number
  readonly egressBandwidth: number
}

/** In the style of the paper's structs: what a service is, and JSON for the rest. */
export type TenantService = {
  readonly name: string
  readonly network: string
  /** `80:8080/tcp,53/udp` */
  readonly ports: string
  readonly requestIp: number
  /** Seconds. */
  readonly affinity: number
  /** JSON. */
  readonly serviceDetail: string
}

export type ZmqRequest =
  | { readonly kind: Extract<RequestKind, `connection-${string}`>; readonly connection: Connection }
  | { readonly kind: Extract<RequestKind, `network-${string}`>; readonly network: TenantNetwork }
  | { readonly kind: Extract<RequestKind, `service-${string}`>; readonly service: TenantService }

/** A request with its type number. */
export type TypedRequest = { readonly type: RequestType; readonly request: ZmqRequest }

/** @throws ERR_INVALID naming the field */
export function decodeRequest(message: Buffer): TypedRequest {
  const { type, data } = decodeHeader(message)
  if (!isRequestType(type)) throw invalid('msgType', `${type} is not a request`)
  const kind = REQUESTS[type]
  switch (kind) {
    case 'connection-create':
    case 'connection-delete':
    case 'connection-query':
    case 'connection-update':
      return { type, request: { kind, connection: decodeConnection(data) } }
    case 'network-create':
    case 'network-delete':
    case 'network-query':
      return { type, request: { kind, network: decodeNetwork(data) } }
    case 'service-create':
    case 'service-delete':
    case 'service-query':
      return { type, request: { kind, service: decodeService(data) } }
  }
}

/** @throws ERR_INVALID when the header is short or its length is not that of the data */
export function decodeHeader(message: Buffer): { readonly type: number; readonly data: Buffer } {
  const header = new FieldReader(message.subarray(0, HEADER_BYTES))
  const [length, type] = [header.int('msgLen'), header.int('msgType')]
  const data = message.subarray(HEADER_BYTES)
  if (length !== data.byteLength) throw invalid('msgLen', `is ${length}, but ${data.byteLength} bytes of data follow`)
  return { type, data }
}

/** @throws ERR_INVALID naming the field */
export function decodeConnection(data: Buffer): Connection {
  const reader = new FieldReader(data)
  const connection = {
    id: reader.text('ID'),
    name: reader.text('Name'),
    pid: reader.text('PID'),
    requestIp: reader.int('RequestIP') >>> 0,
    network: reader.int('Network') >>> 0,
    ovsPortId: reader.int('OvsPortID'),
    bandwidth: reader.int('Bandwidth'),
    delay: reader.int('Delay'),
    rxTotal: reader.int('RxTotal'),
    txTotal: reader.int('TxTotal'),
    rxRate: reader.int('RxRate'),
    txRate: reader.int('TxRate'),
    connDetail: reader.text('ConnDetail')
  }
  reader.end()
  return connection
}

export function encodeConnection(connection: Connection): Buffer {
  const { id, name, pid, requestIp, network, connDetail } = connection
  return new FieldWriter()
    .text(id)
    .text(name)
    .text(pid)
    .address(requestIp)
    .address(network)
    .int(connection.ovsPortId)
    .int(connection.bandwidth)
    .int(connection.delay)
    .int(connection.rxTotal)
    .int(connection.txTotal)
    .int(connection.rxRate)
    .int(connection.txRate)
    .text(connDetail)
    .finish()
}

/** @throws ERR_INVALID naming the field */
export function decodeNetwork(data: Buffer): TenantNetwork {
  const reader = new FieldReader(data)
  const [name, subnet, gateway] = [reader.text('name'), reader.text('subnet'), reader.text('gateway')]
  const network = { name, subnet, gateway, vni: reader.int('vni'), egressBandwidth: reader.int('egressBandwidth') }
  reader.end()
  return network
}

export function encodeNetwork({ name, subnet, gateway, vni, egressBandwidth }: TenantNetwork): Buffer {
  return new FieldWriter().text(name).text(subnet).text(gateway).int(vni).int(egressBandwidth).finish()
}

/** @throws ERR_INVALID naming the field */
export function decodeService(data: Buffer): TenantService {
  const reader = new FieldReader(data)
  const service = {
    name: reader.text('name'),
    network: reader.text('network'),
    ports: reader.text('ports'),
    requestIp: reader.int('RequestIP') >>> 0,
    affinity: reader.int('affinity'),
    serviceDetail: reader.text('ServiceDetail')
  }
  reader.end()
  return service
}

export function encodeService({ name, network, ports, requestIp, affinity, serviceDetail }: TenantService): Buffer {
  const writer = new FieldWriter().text(name).text(network).text(ports)
  return writer.address(requestIp).int(affinity).text(serviceDetail).finish()
}

/** @param detail becomes JSON */
export function encodeError(p: { readonly code: number; readonly message: string; readonly detail: unknown }): Buffer {
  const data = new FieldWriter().int(p.code).text(p.message).text(JSON.stringify(p.detail)).finish()
  return encodeMessage(ERROR_TYPE, data)
}

export function encodeMessage(type: number, data: Buffer): Buffer {
  const bytes = HEADER_BYTES + data.byteLength
  const message = bytes > POOLED_BYTES ? Buffer.allocUnsafeSlow(bytes) : Buffer.allocUnsafe(bytes)
  message.writeInt32LE(type, message.writeInt32LE(data.byteLength, 0))
  data.copy(message, HEADER_BYTES)
  return message
}

function isRequestType(type: number): type is RequestType {
  return Object.hasOwn(REQUESTS, type)
}
