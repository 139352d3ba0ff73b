// CURVE authentication, as required beyond loopback: only clients with listed keys get answers.

import { existsSync } from 'node:fs'
import { chmod, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import t from 'tap'
import { curveKeyPair, Dealer } from 'zeromq'
import { loadConfig } from '#config/load.ts'
import { keylessPorts, readZmqKeys } from '#config/zmq-keys.ts'
import { decodeHeader, encodeMessage, encodeNetwork } from '#zmq/message.ts'
import { systemClock } from '#platform/clock.ts'
import { run } from '#platform/process.ts'
import { encodeZ85 } from '#zmq/zap.ts'
import { ZmqServer } from '#zmq/server.ts'
import { MemoryHost } from '#test/agent/memory-host.ts'
import { freePort } from '#test/lab/free-port.ts'
import { waitFor } from '#test/lab/wait.ts'

const QUESTION = encodeMessage(13, encodeNetwork({ name: 'none', subnet: '', gateway: '', vni: 0, egressBandwidth: 0 }))

async function addresses(): Promise<{ requests: string; events: string; rpc: string }> {
  const [requests, events, rpc] = await Promise.all([freePort(), freePort(), freePort()])
  return {
    requests: `tcp://127.0.0.1:${requests}`,
    events: `tcp://127.0.0.1:${events}`,
    rpc: `tcp://127.0.0.1:${rpc}`
  }
}

const common = {
  agent: new MemoryHost().port,
  interfaceIndex: () => 0,
  clock: systemClock,
  logger: pino({ level: 'silent' })
}

/** The type of the answer to a request, or null if none arrives. */
async function ask(address: string, keys: object): Promise<number | null> {
  const dealer = new Dealer({ linger: 0, receiveTimeout: 1_500, ...keys })
  dealer.connect(address)
  try {
    await dealer.send(QUESTION)
    const [answer] = await dealer.receive()
    return answer === undefined ? null : decodeHeader(answer).type
  } catch {
    return null
  } finally {
    dealer.close()
  }
}

t.test('a listed key is answered; another key, a wrong server key and no key are not', async t => {
  const [server, friend, stranger] = [curveKeyPair(), curveKeyPair(), curveKeyPair()]
  const at = await addresses()
  const curve = { secretKey: server.secretKey, allowedKeys: [friend.publicKey] }
  const running = await ZmqServer.start({ ...common, addresses: at, curve })
  const keysOf = (pair: { publicKey: string; secretKey: string }, serverKey = server.publicKey): object => ({
    curveServerKey: serverKey,
    curvePublicKey: pair.publicKey,
    curveSecretKey: pair.secretKey
  })
  try {
    t.equal(await ask(at.rpc, keysOf(friend)), 199)
    t.equal(await ask(at.rpc, keysOf(stranger)), null)
    t.equal(await ask(at.rpc, keysOf(friend, stranger.publicKey)), null)
    t.equal(await ask(at.rpc, {}), null)
    t.equal(await ask(at.rpc, keysOf(friend)), 199, 'the listed client still is')
  } finally {
    await running.stop()
  }
})

const noIpv6 = existsSync('/proc/net/if_inet6') ? false : 'no IPv6'

t.test('sockets with IPv6 addresses answer, and need keys even on loopback', { skip: noIpv6 }, async t => {
  const at = await addresses()
  const six = (url: string): string => url.replace('127.0.0.1', '[::1]')
  const everywhere = { requests: six(at.requests), events: at.events, rpc: six(at.rpc) }
  const [server, friend] = [curveKeyPair(), curveKeyPair()]
  const curve = { secretKey: server.secretKey, allowedKeys: [friend.publicKey] }
  const running = await ZmqServer.start({ ...common, addresses: everywhere, curve })
  t.teardown(() => running.stop())
  const { publicKey: curvePublicKey, secretKey: curveSecretKey } = friend
  const keys = { curveServerKey: server.publicKey, curvePublicKey, curveSecretKey, ipv6: true }
  t.equal(await ask(six(at.rpc), keys), 199)
  t.equal(await ask(six(at.rpc), { ipv6: true }), null)
  t.equal(await ask(at.rpc, keys), null, 'not at an IPv4 address')
  const { zmq } = await loadConfig({
    ...{ file: null, env: {} },
    flags: { bind: '192.0.2.1', insecure: 'true', 'zmq.rpc': 'tcp://[0::1]:30029' }
  })
  t.equal(zmq.rpc, 'tcp://[::1]:30029')
  await t.rejects(readZmqKeys(zmq), { code: 'ERR_CONFIG', field: 'zmq.rpc', message: /is not loopback/ })
  t.notOk(keylessPorts(zmq).includes(30_029))
})

t.test('an error names the setting of a port in use, and no socket stays bound', async t => {
  const at = await addresses()
  const first = await ZmqServer.start({ ...common, addresses: at, curve: null })
  const second = { ...(await addresses()), rpc: at.rpc }
  await t.rejects(ZmqServer.start({ ...common, addresses: second, curve: null }), {
    code: 'ERR_CONFIG',
    field: 'zmq.rpc'
  })
  await first.stop()
  // ZeroMQ's I/O thread releases an address shortly after its socket is closed.
  const again = await waitFor('nothing is left bound', () =>
    ZmqServer.start({ ...common, addresses: second, curve: null }).catch(() => null)
  )
  t.equal(await ask(at.rpc, {}), 199)
  await again.stop()
})

t.test('our text form of a key is that of the library', async t => {
  t.equal(encodeZ85(Buffer.from([0x86, 0x4f, 0xd2, 0x6f, 0xb5, 0x59, 0xf7, 0x5b])), 'HelloWorld')
})

t.test('beyond loopback keys are required, and readable by their owner only', async t => {
  const dir = await mkdtemp(join(tmpdir(), 'vxmesh-zmq-'))
  t.teardown(() => rm(dir, { recursive: true }))
  const file = async (name: string, text: string, mode = 0o600): Promise<string> => {
    await writeFile(join(dir, name), text, { mode })
    return join(dir, name)
  }
  const { publicKey, secretKey } = curveKeyPair()
  const [secret, allowed] = [await file('secret', `${secretKey}\n`), await file('allowed', `# ours\n${publicKey}\n\n`)]
  const keys = async (flags: Record<string, string>): ReturnType<typeof readZmqKeys> =>
    readZmqKeys((await loadConfig({ file: null, env: {}, flags: { bind: '192.0.2.1', ...flags } })).zmq)
  const both = { 'zmq.secretKeyFile': secret, 'zmq.allowedKeysFile': allowed }
  t.equal(await keys({}), null)
  const { zmq } = await loadConfig({ file: null, env: {}, flags: { bind: '192.0.2.1' } })
  t.same(keylessPorts(zmq), [30_027, 30_028, 30_029])
  t.same(keylessPorts({ ...zmq, events: 'tcp://192.0.2.1:1' }), [30_027, 30_029])
  t.same(keylessPorts({ ...zmq, secretKeyFile: '/x' }), [], 'with keys a connection has its own proof')
  await t.rejects(readZmqKeys(zmq, 'no nft'), {
    code: 'ERR_CONFIG',
    field: 'zmq.requests',
    message: /every user \(no nft\)/
  })
  t.same(await keys(both), { secretKey, allowedKeys: [publicKey] })
  const cases: readonly (readonly [flags: Record<string, string>, field: string])[] = [
    [{ 'zmq.requests': 'tcp://192.0.2.1:30027' }, 'zmq.requests'],
    [{ 'zmq.events': 'tcp://0.0.0.0:30028' }, 'zmq.events'],
    [{ 'zmq.secretKeyFile': secret }, 'zmq.allowedKeysFile'],
    [{ 'zmq.allowedKeysFile': allowed }, 'zmq.secretKeyFile'],
    [{ ...both, 'zmq.secretKeyFile': join(dir, 'none') }, 'zmq.secretKeyFile'],
    [{ ...both, 'zmq.secretKeyFile': await file('open', secretKey, 0o644) }, 'zmq.secretKeyFile'],
    [{ ...both, 'zmq.secretKeyFile': await file('two', `${secretKey}\n${secretKey}\n`) }, 'zmq.secretKeyFile'],
    [{ ...both, 'zmq.secretKeyFile': await file('empty', '') }, 'zmq.secretKeyFile'],
    [{ ...both, 'zmq.allowedKeysFile': await file('short', publicKey.slice(1)) }, 'zmq.allowedKeysFile']
  ]
  for (const [flags, field] of cases) await t.rejects(keys(flags), { code: 'ERR_CONFIG', field }, field)
})

t.test('a UNIX socket answers its owner without a key, has mode 0600, and no other user can connect', async t => {
  const dir = await mkdtemp(join(tmpdir(), 'vxmesh-ipc-'))
  t.teardown(() => rm(dir, { recursive: true }))
  // Others may search the directory: the sockets' own mode has to keep them out.
  await chmod(dir, 0o755)
  const at = (name: string): string => `ipc://${join(dir, name)}`
  const sockets = { requests: at('requests'), events: at('events'), rpc: at('rpc') }
  const flags = {
    bind: '192.0.2.1',
    ...Object.fromEntries(Object.entries(sockets).map(([key, url]) => [`zmq.${key}`, url]))
  }
  const { zmq } = await loadConfig({ file: null, env: {}, flags })
  t.equal(await readZmqKeys(zmq, 'no nft'), null, 'also where the kernel knows no owners of connections')
  t.same(keylessPorts(zmq), [])
  const umask = process.umask(0o022)
  t.teardown(() => process.umask(umask))
  const server = await ZmqServer.start({ ...common, addresses: sockets, curve: null })
  t.teardown(() => server.stop())
  t.equal(process.umask(0o022), 0o022)
  for (const name of ['requests', 'events', 'rpc']) t.equal((await stat(join(dir, name))).mode & 0o777, 0o600, name)
  t.equal(await ask(sockets.rpc, {}), 199)
  if (process.getuid?.() !== 0) return
  const connect = `import socket; socket.socket(socket.AF_UNIX).connect('${join(dir, 'rpc')}')`
  const as = (user: number): ReturnType<typeof run> =>
    run('setpriv', [`--reuid=${user}`, '--clear-groups', '/usr/bin/python3', '-c', connect])
  t.equal((await as(0)).exitCode, 0)
  t.match(await as(65_534), { exitCode: 1, stderr: /PermissionError/ })
})
