// Every parser of untrusted input, each with a corpus of valid inputs. A target accepts any bytes or refuses them with a
// typed error; every other error is a crash.

import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import { readConfig as readCniConfig, checkConfig, versionOf, requestedOf } from '#cni/config.ts'
import { argsOf, containerIdOf, ifnameOf, netnsOf, readCall } from '#cni/call.ts'
import * as bodies from '#api/schemas.ts'
import { readForeignAnswer, replyWith, upstreamQuery } from '#dns/foreign-answer.ts'
import { answerOwn } from '#dns/own-names.ts'
import { parseQuery } from '#dns/query.ts'
import { encodeReply } from '#dns/reply.ts'
import { stateFrom, stateSections } from '#backup/state-bytes.ts'
import { encodeState } from '#allocator/snapshot.ts'
import { readLogLine } from '#membership/view/log-line.ts'
import { readMember } from '#membership/view/serf-member.ts'
import type { Request } from '#model/command.ts'
import type { ClusterId, PeerId } from '#model/ids.ts'
import {
  parseContainerId,
  parseHostName,
  parseIfName,
  parseNamespaceName,
  parseNetworkName,
  parsePeerId
} from '#model/ids.ts'
import { parseSubnet } from '#model/ip.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { parseJoinAddress } from '#model/join-address.ts'
import { parseMac } from '#model/mac.ts'
import { parseRequest } from '#model/parse-request.ts'
import { parseDelay, parseRate } from '#model/quantity.ts'
import { decodeMsgpack, encodeMsgpack, msgpackValueStream } from '#platform/msgpack.ts'
import type { Message } from '#raft/types.ts'
import { decodeFeed, encodeFeed } from '#replication/feed/feed-message.ts'
import { FrameReader, encodeFrame } from '#replication/transport/frame.ts'
import { decodeRaftMessage, encodeRaftMessage } from '#replication/codec/raft-codec.ts'
import { decodeRequest as decodeEntry, encodeRequest as encodeEntry } from '#replication/codec/request-codec.ts'
import { snapshotFileBytes, SnapshotParser } from '#replication/storage/snapshot-file.ts'
import {
  decodeRequest,
  encodeConnection,
  encodeMessage,
  encodeNetwork,
  encodeService,
  REQUESTS,
  type Connection
} from '#zmq/message.ts'
import { parseDetail, parseDetailChanges } from '#zmq/detail.ts'
import { parseServiceDetail } from '#zmq/service-detail.ts'
import { attach, Caller, create, serve } from '../allocator/fixtures.ts'
import { answerTo, ask, soaOf } from '../dns/messages.ts'
import { record } from '../membership/fixtures.ts'
import { entries } from '../replication/entries.ts'
import { joined, oldSnapshotBytes, sections } from '../replication/snapshots.ts'

export type Target = {
  readonly name: string
  /** Share of the inputs, relative to the other targets. */
  readonly weight: number
  readonly corpus: readonly Uint8Array[]
  readonly run: (bytes: Buffer) => unknown
}

const text = (...lines: readonly string[]): readonly Uint8Array[] => lines.map(line => Buffer.from(line))
const json = (...values: readonly unknown[]): readonly Uint8Array[] =>
  text(...values.map(value => JSON.stringify(value)))
const packed = (...values: readonly unknown[]): readonly Uint8Array[] => values.map(encodeMsgpack)

const ends = { from: 'a' as PeerId, to: 'b' as PeerId }
const head = { ...ends, clusterId: '0123456789abcdef' as ClusterId, term: 7, incarnation: 3 }
const meta = { lastIndex: 9, lastTerm: 2, configuration: { voters: ['a', 'b'], learners: ['c'] } }
const raftMessages = [
  { ...head, kind: 'pre-vote-request', lastIndex: 9, lastTerm: 6 },
  { ...head, kind: 'pre-vote-reply', granted: true, requestTerm: 7 },
  { ...head, kind: 'vote-request', lastIndex: 9, lastTerm: 6, transfer: false },
  { ...head, kind: 'vote-reply', granted: true },
  { ...head, kind: 'append-request', prevIndex: 4, prevTerm: 1, entries: entries(5, 9), leaderCommit: 8, round: 2 },
  { ...head, kind: 'append-reply', success: true, matchIndex: 9, conflictTerm: 0, round: 2 },
  { ...head, kind: 'install-request', meta, size: 10, offset: 0, data: Buffer.alloc(10), round: 2 },
  { ...head, kind: 'install-reply', lastIndex: 9, offset: 4, done: false, round: 2 },
  { ...head, kind: 'timeout-now' }
] as unknown as readonly Message[]

const connection: Connection = {
  id: 'c1',
  name: 'web',
  pid: '1',
  requestIp: 0x0a010005,
  network: 0x0a010000,
  ovsPortId: 0,
  bandwidth: 1_000,
  delay: 0,
  rxTotal: 0,
  txTotal: 0,
  rxRate: 0,
  txRate: 0,
  connDetail: '{"network":"red","ifname":"eth0"}'
}
const network = { name: 'red', subnet: '10.1.0.0/24', gateway: '10.1.0.1', vni: 0, egressBandwidth: 0 }
const serviceDetail = '{"select":["app=web","tier"],"addresses":["fd00:1::9"],"requestId":"r1"}'
const service = { name: 'web', network: 'red', ports: '80:8080/tcp,53/udp', requestIp: 0, affinity: 60, serviceDetail }
const zmqMessages = Object.keys(REQUESTS)
  .map(Number)
  .map(type =>
    encodeMessage(
      type,
      type > 20 ? encodeService(service) : type > 10 ? encodeNetwork(network) : encodeConnection(connection)
    )
  )

const cniConfig = {
  ...{ cniVersion: '1.1.0', name: 'net', type: 'vxmesh', network: 'red' },
  args: { cni: { labels: [{ key: 'example.com/app', value: 'web' }] } },
  runtimeConfig: {
    bandwidth: { ingressRate: 1e6, ingressBurst: 1e6 },
    mac: '02:00:00:00:00:01',
    ips: ['10.1.0.5/24', 'fd00:1::5/64']
  },
  prevResult: { cniVersion: '1.1.0', ips: [{ address: '10.1.0.5/24' }], interfaces: [] },
  'cni.dev/valid-attachments': [{ containerID: 'c1', ifname: 'eth0' }]
}
const cniVariables = ['CNI_COMMAND=ADD', 'CNI_CONTAINERID=c1', 'CNI_IFNAME=eth0', 'CNI_NETNS=/run/netns/c1']
const cniArgs =
  'CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;IP=10.1.0.5;VXMESH_LABELS=app=web,tier='
const cniCall = Buffer.from(`${[...cniVariables, cniArgs].join('\0')}\0\0${JSON.stringify(cniConfig)}`)

const attachBody = {
  network: 'red',
  containerId: 'c1',
  ifname: 'eth0',
  netns: '/run/netns/c1',
  ingressRate: '10mbit',
  delayUs: '10ms'
}
const createBody = {
  name: 'red',
  subnet: '10.1.0.0/24',
  gateway: '10.1.0.1',
  vni: 5000,
  egressRate: '1gbit',
  egress: true
}
const schemas = [
  [bodies.networkCreateBody, createBody],
  [bodies.networkCreateBody, { name: 'red', subnets: ['10.1.0.0/24', 'fd00:1::/64'] }],
  [bodies.networkUpdateBody, { egressRate: '10mbit', addSubnet: 'fd00:1::/64' }],
  [bodies.endpointAttachBody, attachBody],
  [bodies.endpointAttachBody, { ...attachBody, addresses: ['10.1.0.5', 'fd00:1::5'] }],
  [bodies.endpointUpdateBody, { ingressRate: 1e6, delayUs: '1ms' }],
  [bodies.endpointAttachBody, { ...attachBody, labels: { app: 'web', 'example.com/tier': '' } }],
  [bodies.endpointUpdateBody, { labels: { app: 'web', gone: null } }],
  [
    bodies.serviceCreateBody,
    { network: 'red', name: 'web', ports: ['80:8080/tcp', '53/udp'], select: ['app=web', 'tier'] }
  ],
  [
    bodies.serviceCreateBody,
    {
      network: 'red',
      name: 'db',
      headless: true,
      ports: [{ protocol: 'sctp', port: 5 }],
      backends: ['10.1.0.5:80', '[fd00:1::5]:81']
    }
  ],
  [bodies.serviceUpdateBody, { ports: ['80'], backends: ['10.1.0.5'], affinitySeconds: 60 }],
  [bodies.namespaceMapBody, { network: 'red', grants: ['blue'] }],
  [bodies.joinBody, { addresses: ['192.0.2.1', '192.0.2.2:7946'] }]
] as const

const words: readonly ((word: string) => unknown)[] = [
  parseContainerId,
  parseHostName,
  parseIfName,
  parseNamespaceName,
  parseNetworkName,
  parsePeerId,
  parseIpv4,
  parseSubnet,
  parseJoinAddress,
  parseMac,
  word => parseRate(word, 'rate'),
  word => parseDelay(word, 'delay'),
  readLogLine
]

function aState(): Caller {
  const caller = Caller.ready()
  for (let n = 0; n < 20; n++) caller.do(attach('red', `c${n}`))
  caller.do(create('blue', { subnet: '10.2.0.0/16' }))
  return caller
}

/** In pieces, as from a disk or a peer. */
function sectionsIn(bytes: Buffer): Uint8Array[] {
  const parser = new SnapshotParser('fuzz')
  const found: Uint8Array[] = []
  for (let at = 0; at < bytes.byteLength; at += 1_000) found.push(...parser.push(bytes.subarray(at, at + 1_000)))
  parser.finish()
  return found
}

/** A correct checksum over damaged content: without it only the checksum would be tested. */
function resealed(bytes: Buffer): Buffer {
  const body = bytes.subarray(0, Math.max(0, bytes.byteLength - 32))
  return Buffer.concat([body, createHash('sha256').update(body).digest()])
}

const ownNames = {
  network: parseNetworkName('red'),
  subnets: [parseSubnet('10.1.0.0/24')],
  zone: 'vxmesh',
  view: { lookup: () => ({ addresses: [parseIpv4('10.1.0.2')] }), nameOf: () => 'web' }
}
const dnsRecord = { type: 'A', name: 'www.example', ttl: 60, data: '203.0.113.7' } as const
const dnsQuery = aDnsQuery()
const dnsSent = upstreamQuery(dnsQuery, 7)

function aDnsQuery(): Parameters<typeof upstreamQuery>[0] {
  const parsed = parseQuery(ask('www.example', 'A', { edns: 1_232 }), 'udp')
  if (parsed.kind !== 'query') throw new Error(parsed.kind)
  return parsed.query
}

export async function targets(): Promise<readonly Target[]> {
  const caller = aState()
  const sealed = await joined(
    snapshotFileBytes({ clusterId: head.clusterId, meta: meta as never }, stateSections(caller.state, 8))
  )
  const old = oldSnapshotBytes(
    { clusterId: head.clusterId, meta: meta as never },
    encodeMsgpack(encodeState(caller.state))
  )
  const requests = [
    create('red'),
    attach('red', 'c1'),
    serve('red', 'web', { affinity: 9 }),
    { kind: 'session-open' },
    { kind: 'host-remove', name: 'h1' }
  ]
  return [
    { name: 'zmq-message', weight: 15, corpus: zmqMessages, run: bytes => decodeRequest(bytes) },
    {
      name: 'zmq-detail',
      weight: 8,
      corpus: json(
        { network: 'red', ifname: 'eth0', mac: '02:00:00:00:00:01', labels: { a: 'b' } },
        { requestId: 'r1', delayUs: 5 }
      ),
      run: bytes => parseDetail(bytes.toString())
    },
    {
      name: 'zmq-detail-of-an-update',
      weight: 3,
      corpus: json({ ifname: 'eth0', egressRate: '1mbit', labels: { 'example.com/a': 'b', gone: null } }),
      run: bytes => parseDetailChanges(bytes.toString())
    },
    {
      name: 'zmq-detail-of-a-service',
      weight: 3,
      corpus: json(
        { select: ['app=web', 'tier'], addresses: ['10.1.0.9', 'fd00:1::9'], requestId: 'r1' },
        { backends: ['10.1.0.5:80', '[fd00:1::5]:80'], headless: true }
      ),
      run: bytes => parseServiceDetail(bytes.toString())
    },
    {
      name: 'cni-call',
      weight: 10,
      corpus: [cniCall],
      run: bytes => {
        const { variables, config } = readCall(bytes)
        const [args, checked] = [argsOf(variables), readCniConfig(config)]
        versionOf(checked)
        return [
          containerIdOf(variables),
          ifnameOf(variables),
          netnsOf(variables),
          requestedOf(checkConfig(checked), args)
        ]
      }
    },
    ...schemas.map(([schema, good]): Target => ({
      name: `http-${Object.keys(good).join('-')}`,
      weight: 3,
      corpus: json(good),
      run: bytes => bodies.check<unknown>(schema, parseJson(bytes))
    })),
    {
      name: 'dns-query',
      weight: 10,
      corpus: [
        ask('web.red.vxmesh', 'A', { edns: 1_232 }),
        ask('2.0.1.10.in-addr.arpa', 'PTR'),
        ask('www.example', 'ANY')
      ],
      run: bytes => {
        const parsed = parseQuery(bytes, 'udp')
        if (parsed.kind !== 'query') return null
        const reply = answerOwn(ownNames, parsed.query)
        return reply === null ? upstreamQuery(parsed.query, 1) : encodeReply(parsed.query, reply)
      }
    },
    {
      name: 'dns-answer',
      weight: 10,
      corpus: [answerTo(dnsSent, { answers: [dnsRecord], authorities: [soaOf('example', 5)] })],
      run: bytes => {
        const answer = readForeignAnswer(bytes, dnsSent)
        return answer === null ? null : replyWith(answer, dnsQuery, 1)
      }
    },
    {
      name: 'raft-message',
      weight: 15,
      corpus: raftMessages.map(encodeRaftMessage),
      run: bytes => decodeRaftMessage(bytes, ends)
    },
    {
      name: 'feed-message',
      weight: 10,
      corpus: encodeFeed({
        clusterId: head.clusterId,
        term: 3 as never,
        commitIndex: 9 as never,
        entries: entries(1, 9)
      }),
      run: decodeFeed
    },
    {
      name: 'frames',
      weight: 8,
      corpus: [Buffer.concat([encodeFrame(Buffer.from('ab')), encodeFrame(Buffer.alloc(300))])],
      run: bytes => {
        const reader = new FrameReader()
        const cut = Math.floor(bytes.byteLength / 3)
        return [bytes.subarray(0, cut), bytes.subarray(cut)].flatMap(chunk => reader.push(chunk))
      }
    },
    {
      name: 'command',
      weight: 8,
      corpus: requests
        .map((command, seq) => ({ session: 's', seq, settledBelow: 0, command }))
        .flatMap(request => [encodeMsgpack(request), encodeEntry(request as Request)]),
      run: bytes => parseRequest(decodeEntry(bytes))
    },
    {
      name: 'serf-record',
      weight: 8,
      corpus: packed(record(1), record(2, { Status: 'left' })),
      run: bytes => readMember(decodeMsgpack(bytes))
    },
    {
      name: 'serf-stream',
      weight: 1,
      corpus: [Buffer.concat(packed({ Seq: 1, Error: '' }, { Members: [record(1)] }))],
      run: readStream
    },
    {
      name: 'words',
      weight: 12,
      corpus: text(
        'web-1',
        'h1.example',
        '10.1.0.0/24',
        '10.1.0.5',
        '02:aa:bb:cc:dd:ee',
        '10mbit',
        '10ms',
        '192.0.2.1:7946',
        'serf: EventMemberJoin: h1'
      ),
      run: bytes => refusedOrNot(words, bytes.toString())
    },
    { name: 'snapshot-file', weight: 1, corpus: [sealed, old], run: bytes => sectionsIn(bytes).length },
    {
      name: 'snapshot-content',
      weight: 1,
      corpus: [sealed, old],
      run: bytes => stateFrom(sections(...sectionsIn(resealed(bytes))))
    }
  ]
}

function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString())
  } catch {
    return undefined // the HTTP library's own part, fuzzed on live sockets
  }
}

/** Runs each parser; throws the first error that is not typed. */
function refusedOrNot(parsers: readonly ((word: string) => unknown)[], word: string): number {
  let accepted = 0
  for (const parse of parsers) {
    try {
      parse(word)
      accepted += 1
    } catch (err) {
      if (!isTyped(err)) throw err
    }
  }
  return accepted
}

/** Whether a parser may throw this. */
export function isTyped(err: unknown): boolean {
  return err instanceof Error && (err.name === 'VxmeshError' || err.name === 'CniError')
}

/** An error of the stream ends the connection: the client closes it and opens another. */
async function readStream(bytes: Buffer): Promise<number> {
  let values = 0
  const stream = msgpackValueStream()
  const read = Readable.from([bytes]).pipe(stream)
  try {
    for await (const value of read as AsyncIterable<unknown>) if (value !== undefined) values += 1
  } catch {
    return -1
  }
  return values
}
