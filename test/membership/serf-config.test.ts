import t from 'tap'
import { serfConfig, type SerfOptions } from '#membership/serf/serf-config.ts'
import { encodeTags } from '#membership/view/tags.ts'
import { parseIp } from '#model/ip.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { tags } from './fixtures.ts'

const OPTIONS: SerfOptions = {
  name: 'h1',
  bind: parseIpv4('192.0.2.1'),
  port: 7_946,
  rpcPort: 7_373,
  encryptKey: Buffer.alloc(32, 7),
  rpcAuth: null,
  tags: tags(1),
  join: ['192.0.2.2:7946']
}

const parsed = (options: SerfOptions, dir = '/data/serf'): Record<string, unknown> =>
  JSON.parse(serfConfig(options, dir)) as Record<string, unknown>

t.test('the configuration holds name, addresses, key, tags and join addresses', t => {
  t.match(parsed(OPTIONS), {
    node_name: 'h1',
    bind: '192.0.2.1:7946',
    advertise: '192.0.2.1:7946',
    rpc_addr: '127.0.0.1:7373',
    encrypt_key: Buffer.alloc(32, 7).toString('base64'),
    tags: encodeTags(tags(1)),
    snapshot_path: '/data/serf/serf.snapshot',
    retry_join: ['192.0.2.2:7946'],
    retry_max_attempts: 0
  })
  t.end()
})

t.test('an IPv6 address is in brackets', t => {
  const options = { ...OPTIONS, bind: parseIp('fd00::1'), tags: tags(1, { vtep: parseIp('fd00::2') }) }
  const [bind, advertise] = ['[fd00::1]:7946', '[fd00::1]:7946']
  t.match(parsed(options), { bind, advertise, rpc_addr: '127.0.0.1:7373', tags: { vtep: 'fd00::2' } })
  t.end()
})

t.test('without a key there is no key setting, which Serf would reject when empty', t => {
  t.notOk('encrypt_key' in parsed({ ...OPTIONS, encryptKey: null }))
  t.end()
})

t.test('the RPC requires a token if there is one', t => {
  t.equal(parsed({ ...OPTIONS, rpcAuth: 'token' })['rpc_auth'], 'token')
  t.end()
})

t.test('the RPC listens on loopback only, whatever the bind address', t => {
  for (const bind of ['0.0.0.0', '192.0.2.9']) {
    t.equal(parsed({ ...OPTIONS, bind: parseIpv4(bind) })['rpc_addr'], '127.0.0.1:7373')
  }
  t.end()
})

t.test('a host that has left rejoins, and a signal is not a leave', t => {
  t.match(parsed(OPTIONS), {
    rejoin_after_leave: true,
    leave_on_terminate: false,
    skip_leave_on_interrupt: true
  })
  t.end()
})

t.test('nothing that runs a shell or bypasses the tags is configured', t => {
  const keys = Object.keys(parsed(OPTIONS))
  for (const key of ['event_handlers', 'tags_file', 'rpc_auth', 'keyring_file']) t.notOk(keys.includes(key), key)
  t.end()
})

t.test('a member that claims the name of this host does not end its Serf', t => {
  t.equal(parsed(OPTIONS)['disable_name_resolution'], true)
  t.end()
})

t.test('equal options give the same text, and any changed option another one', t => {
  const text = serfConfig(OPTIONS, '/data/serf')
  t.equal(serfConfig({ ...OPTIONS }, '/data/serf'), text)
  t.ok(text.endsWith('}\n'))
  for (const change of [
    { name: 'h2' },
    { port: 1 },
    { rpcPort: 2 },
    { encryptKey: Buffer.alloc(32, 8) },
    { tags: tags(1, { role: 'client' }) },
    { join: [] }
  ]) {
    t.not(serfConfig({ ...OPTIONS, ...change }, '/data/serf'), text, JSON.stringify(change))
  }
  t.not(serfConfig(OPTIONS, '/other/serf'), text, 'directory')
  t.end()
})
