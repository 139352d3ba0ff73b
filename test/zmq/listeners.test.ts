// Changes are described and encoded for the events socket only once a client was let in there.

import { connect } from 'node:net'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { curveKeyPair, Dealer, Publisher, Subscriber, XSubscriber } from 'zeromq'
import { systemClock } from '#platform/clock.ts'
import type { AgentEvent } from '#model/event.ts'
import { decodeConnection, decodeHeader, decodeService, encodeMessage, encodeNetwork } from '#zmq/message.ts'
import { ZmqServer, type CurveKeys } from '#zmq/server.ts'
import { MemoryHost } from '#test/agent/memory-host.ts'
import { freePort } from '#test/lab/free-port.ts'
import { waitFor } from '#test/lab/wait.ts'

const QUERY = encodeMessage(13, encodeNetwork({ name: 'none', subnet: '', gateway: '', vni: 0, egressBandwidth: 0 }))

/** A server with its agent, which counts who watches its events. */
async function serve(
  t: Test,
  curve: CurveKeys | null
): Promise<{
  readonly host: MemoryHost
  readonly events: string
  readonly requests: string
  readonly rpc: string
  readonly watchers: () => number
}> {
  const [requests = '', events = '', rpc = ''] = (await Promise.all([freePort(), freePort(), freePort()])).map(
    port => `tcp://127.0.0.1:${port}`
  )
  const host = new MemoryHost()
  let watchers = 0
  const watch = (listener: (event: AgentEvent) => void): (() => void) => {
    const stop = host.port.watch(listener)
    watchers += 1
    return () => {
      watchers -= 1
      stop()
    }
  }
  const server = await ZmqServer.start({
    addresses: { requests, events, rpc },
    curve,
    agent: { ...host.port, watch },
    interfaceIndex: () => 0,
    clock: systemClock,
    logger: pino({ level: 'silent' })
  })
  t.teardown(() => server.stop())
  return { host, events, requests, rpc, watchers: () => watchers }
}

/** Publishes the event of a network until the subscriber has received one. */
async function hears(host: MemoryHost, subscriber: Subscriber): Promise<number> {
  const received: number[] = []
  const reading = (async () => {
    const [message] = await subscriber.receive()
    if (message !== undefined) received.push(decodeHeader(message).type)
  })()
  await waitFor('an event arrives', () => {
    const [subnet, gateway] = ['10.1.0.0/24', '10.1.0.1']
    const addresses = { subnet, subnets: [subnet], gateway, gateways: [gateway] }
    const network = { name: 'red', vni: 9, ...addresses, egressRate: 0 }
    host.events.publish(() => ({
      kind: 'network-created',
      index: 9,
      network: { ...network, egress: true, hostAccess: false, egressV6: 'nat' }
    }))
    return received.length > 0
  })
  await reading
  return received[0] ?? 0
}

t.test('the agent is watched once a client is let in on the events socket, which misses nothing', async t => {
  const { host, events, rpc, watchers } = await serve(t, null)
  const other = new Dealer({ linger: 0, receiveTimeout: 5_000 })
  t.teardown(() => other.close())
  other.connect(rpc)
  await other.send(QUERY)
  await other.receive()
  t.equal(watchers(), 0, 'a client of another socket is no listener')
  const [one, two] = [new Subscriber({ linger: 0 }), new Subscriber({ linger: 0 })]
  t.teardown(() => [one, two].forEach(socket => socket.close()))
  for (const subscriber of [one, two]) {
    subscriber.connect(events)
    subscriber.subscribe()
  }
  t.equal(await hears(host, one), 111)
  t.equal(await hears(host, two), 111)
  t.equal(watchers(), 1, 'once for all')
  one.close()
  t.equal(await hears(host, two), 111)
})

t.test('nobody listens through a connection without a listed key, or with another protocol', async t => {
  const [server, friend, stranger] = [curveKeyPair(), curveKeyPair(), curveKeyPair()]
  const curve = { secretKey: server.secretKey, allowedKeys: [friend.publicKey] }
  const { host, events, watchers } = await serve(t, curve)
  const subscriberWith = (pair: { publicKey: string; secretKey: string }): Subscriber => {
    const keys = { curveServerKey: server.publicKey, curvePublicKey: pair.publicKey, curveSecretKey: pair.secretKey }
    const subscriber = new Subscriber({ linger: 0, receiveTimeout: 300, ...keys })
    t.teardown(() => subscriber.close())
    subscriber.connect(events)
    subscriber.subscribe()
    return subscriber
  }
  await t.rejects(subscriberWith(stranger).receive(), { code: 'EAGAIN' })
  const socket = connect(Number(events.split(':')[2]), '127.0.0.1')
  socket.on('error', () => undefined)
  socket.resume()
  socket.write('GET / HTTP/1.1\r\n\r\n')
  await waitFor('it is cut off', () => socket.closed, { timeoutMs: 10_000 })
  t.equal(watchers(), 0)
  t.equal(await hears(host, subscriberWith(friend)), 111)
  t.equal(watchers(), 1)
})

t.test(
  'what a peer sends to the events socket is dropped, and a topic that is too long ends its connection',
  async t => {
    const { host, events } = await serve(t, null)
    const [peer, honest] = [new XSubscriber({ linger: 0 }), new Subscriber({ linger: 0 })]
    t.teardown(() => [peer, honest].forEach(socket => socket.close()))
    peer.connect(events)
    for (let n = 0; n < 1_000; n++) await peer.send(Buffer.from(`\u0002nonsense ${n}`))
    await peer.send(Buffer.from(`\u0001${'x'.repeat(100_000)}`))
    honest.connect(events)
    honest.subscribe()
    t.equal(await hears(host, honest), 111)
  }
)

t.test(
  'a change of an endpoint from elsewhere is published with its labels, by the type of the request that makes it',
  async t => {
    const { host, events } = await serve(t, null)
    const subscriber = new Subscriber({ linger: 0, receiveTimeout: 200 })
    t.teardown(() => subscriber.close())
    subscriber.connect(events)
    subscriber.subscribe()
    const endpoint = {
      ...{ network: 'red', containerId: 'c1', ifname: 'eth0', name: '', host: 'h1', mac: '', vni: 9 },
      ...{ address: '10.1.0.2/24', addresses: ['10.1.0.2/24'], labels: { app: 'web' } },
      ...{ ingressRate: 0, egressRate: 0, delayUs: 0 }
    }
    for (const [kind, expected] of [
      ['endpoint-attached', 101],
      ['endpoint-updated', 104],
      ['endpoint-detached', 102]
    ] as const) {
      const message = await waitFor(kind, async () => {
        host.events.publish(() => ({ kind, index: 9, endpoint }))
        const received = await subscriber.receive().catch(() => [])
        return received.find(each => decodeHeader(each).type === expected)
      })
      const { connDetail } = decodeConnection(decodeHeader(message).data)
      t.match(JSON.parse(connDetail), { event: true, index: 9, labels: { app: 'web' } })
    }
  }
)

t.test('a change of a service from elsewhere is published', async t => {
  const { host, events } = await serve(t, null)
  const subscriber = new Subscriber({ linger: 0, receiveTimeout: 200 })
  t.teardown(() => subscriber.close())
  subscriber.connect(events)
  subscriber.subscribe()
  const service = {
    ...{ network: 'red', name: 'web', addresses: ['10.1.0.9'], affinitySeconds: 0, select: ['app'], backends: null },
    ports: [{ protocol: 'tcp', port: 80, targetPort: 8_080 }]
  } as const
  for (const [kind, expected] of [
    ['service-created', 121],
    ['service-updated', 121],
    ['service-deleted', 122]
  ] as const) {
    const message = await waitFor(kind, async () => {
      host.events.publish(() => ({ kind, index: 9, service }))
      const received = await subscriber.receive().catch(() => [])
      return received.find(each => decodeHeader(each).type === expected)
    })
    const { serviceDetail, ...struct } = decodeService(decodeHeader(message).data)
    t.match(struct, { name: 'web', network: 'red', ports: '80:8080/tcp', requestIp: 0x0a010009 })
    t.match(JSON.parse(serviceDetail), { event: true, index: 9, select: ['app'] })
  }
})

t.test('answers to requests are published, too', async t => {
  const { events, requests } = await serve(t, null)
  const [publisher, subscriber] = [new Publisher({ linger: 0 }), new Subscriber({ linger: 0, receiveTimeout: 200 })]
  t.teardown(() => [publisher, subscriber].forEach(socket => socket.close()))
  publisher.connect(requests)
  subscriber.connect(events)
  subscriber.subscribe()
  await waitFor('an answer arrives', async () => {
    await publisher.send(QUERY)
    const [answer] = await subscriber.receive().catch(() => [undefined])
    return answer !== undefined && decodeHeader(answer).type === 199
  })
})
