import { writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { stringify } from 'yaml'
import { CONFIG_KEYS, flagOf, loadConfig, variableOf } from '#config/load.ts'
import type { Config } from '#config/schema.ts'
import { VxmeshError } from '#model/errors.ts'

type Flags = Readonly<Record<string, string | readonly string[]>>

/** Loads a configuration with `bind` set, from a file's text, variables and flags. */
async function load(t: Test, p: { file?: string; env?: Record<string, string>; flags?: Flags }): Promise<Config> {
  let file: string | null = null
  if (p.file !== undefined) {
    file = join(t.testdir(), 'config.yaml')
    await writeFile(file, p.file)
  }
  return loadConfig({ file, env: p.env ?? {}, flags: { bind: '192.0.2.1', ...p.flags } })
}

function at(config: Config, key: string): unknown {
  return key.split('.').reduce<unknown>((value, part) => (value as Record<string, unknown>)[part], config)
}

/** For each key a value other than its default, as text and parsed. */
const VALUES: Readonly<Record<string, readonly [text: string, value: unknown]>> = {
  name: ['h7', 'h7'],
  role: ['server', 'server'],
  bootstrapExpect: ['5', 5],
  join: ['192.0.2.1,192.0.2.2:7000', ['192.0.2.1', '192.0.2.2:7000']],
  bind: ['192.0.2.9', 0xc0000209],
  dataDir: ['/data', '/data'],
  collectAfter: ['0', 0],
  socket: ['/data/agent.sock', '/data/agent.sock'],
  clusterKeyFile: ['/data/key', '/data/key'],
  insecure: ['true', true],
  'serf.port': ['7001', 7001],
  'serf.rpcPort': ['7002', 7002],
  'serf.binary': ['/opt/serf', '/opt/serf'],
  'p2p.port': ['7003', 7003],
  'overlay.driver': ['ovs', 'ovs'],
  'overlay.ovs.socket': ['/ovs/db.sock', '/ovs/db.sock'],
  'overlay.ovs.datapath': ['netdev', 'netdev'],
  'overlay.vtep': ['192.0.2.10', 0xc000020a],
  'overlay.vteps': ['10.9.0.0/16,10.8.0.0/24', ['10.9.0.0/16', '10.8.0.0/24']],
  'overlay.port': ['8472', 8472],
  'overlay.mtu': ['1400', 1400],
  'overlay.transit': ['11.0.0.0/8', '11.0.0.0/8'],
  'overlay.guard': ['off', 'off'],
  'egress.local': ['172.17.0.0/16,10.0.0.5/32', ['172.17.0.0/16', '10.0.0.5/32']],
  'dns.enabled': ['false', false],
  'dns.zone': ['Corp.Example.', 'corp.example'],
  'dns.search': ['a.example,b', ['a.example', 'b']],
  'dns.upstreams': ['192.0.2.53,[fd00::1]:5353', ['192.0.2.53:53', '[fd00::1]:5353']],
  'dns.forward': ['false', false],
  'dns.queryRate': ['50', 50],
  'dns.cacheBytes': ['0', 0],
  'namespaces.unmapped': ['create', 'create'],
  'namespaces.range': ['10.0.0.0/8', '10.0.0.0/8'],
  'namespaces.prefixLength': ['22', 22],
  'netns.paths': ['/run/netns,/srv/netns', ['/run/netns', '/srv/netns']],
  'zmq.requests': ['tcp://127.0.0.1:1', 'tcp://127.0.0.1:1'],
  'zmq.events': ['tcp://127.0.0.1:2', 'tcp://127.0.0.1:2'],
  'zmq.rpc': ['tcp://127.0.0.1:3', 'tcp://127.0.0.1:3'],
  'zmq.users': ['1000,65534', [1000, 65_534]],
  'zmq.secretKeyFile': ['/etc/vxmesh/zmq.secret', '/etc/vxmesh/zmq.secret'],
  'zmq.allowedKeysFile': ['/etc/vxmesh/zmq.allowed', '/etc/vxmesh/zmq.allowed'],
  'raft.snapshotBytes': ['65536', 65_536],
  'http.listen': ['192.0.2.1:80', '192.0.2.1:80'],
  'log.level': ['debug', 'debug'],
  'log.format': ['json', 'json']
}

t.test('each key can be set by file, variable and flag', async t => {
  t.same(Object.keys(VALUES), CONFIG_KEYS, 'the table has all keys, in the schema’s order')
  for (const [key, [text, value]] of Object.entries(VALUES)) {
    const tree = key.split('.').reduceRight<unknown>((inner, name) => ({ [name]: inner }), value) as object
    const inFile = key === 'bind' || key === 'overlay.vtep' ? {} : tree
    const none: Flags = key === 'bind' ? { bind: text } : {}
    t.same(at(await load(t, { file: stringify(inFile), flags: { [key]: text } }), key), value, flagOf(key))
    t.same(at(await load(t, { env: { [variableOf(key)]: text }, flags: none }), key), value, variableOf(key))
    if (Object.keys(inFile).length > 0) t.same(at(await load(t, { file: stringify(inFile) }), key), value, key)
  }
})

t.test('names of flags and variables derive from the key', t => {
  t.same(
    ['dataDir', 'serf.rpcPort', 'p2p.port', 'log.level'].map(key => [flagOf(key), variableOf(key)]),
    [
      ['--data-dir', 'VXMESH_DATA_DIR'],
      ['--serf-rpc-port', 'VXMESH_SERF_RPC_PORT'],
      ['--p2p-port', 'VXMESH_P2P_PORT'],
      ['--log-level', 'VXMESH_LOG_LEVEL']
    ]
  )
  t.equal(new Set(CONFIG_KEYS.map(flagOf)).size, CONFIG_KEYS.length, 'no two keys share a flag')
  t.end()
})

t.test('a flag takes precedence over a variable, a variable over the file, the file over the default', async t => {
  const file = 'log: { level: warn }\nserf: { port: 7001, binary: /opt/serf }\n'
  const env = { VXMESH_LOG_LEVEL: 'error', VXMESH_SERF_PORT: '7002' }
  const level = async (p: Parameters<typeof load>[1]): Promise<unknown> => (await load(t, p)).log.level
  t.equal(await level({}), 'info')
  t.equal(await level({ file }), 'warn')
  t.equal(await level({ file, env }), 'error')
  t.equal(await level({ file, env, flags: { 'log.level': 'debug' } }), 'debug')
  const config = await load(t, { file, env })
  t.same([config.serf.port, config.serf.binary], [7002, '/opt/serf'], 'precedence applies per key, not per section')
})

t.test('with only `bind` set, all other keys have defaults, and the configuration is frozen', async t => {
  const config = await load(t, {})
  t.equal(config.name, hostname().toLowerCase().split('.')[0])
  t.match(config, {
    role: 'client',
    bootstrapExpect: 3,
    dataDir: '/var/lib/vxmesh',
    socket: '/run/vxmesh/agent.sock',
    insecure: false,
    serf: { port: 7946, rpcPort: 7373, binary: 'serf' },
    p2p: { port: 7947 },
    overlay: { driver: 'auto', vtep: config.bind, port: 4789, mtu: 'auto' }
  })
  t.throws(() => Object.assign(config, { role: 'server' }), TypeError)
  t.throws(() => Object.assign(config.serf, { port: 1 }), TypeError)
})

t.test('empty and commented-out keys count as absent', async t => {
  for (const file of [
    '',
    '# nothing\n',
    'serf:\n  # port: 1\njoin:\n',
    'serf: { port: }\n',
    'overlay: { ovs: { socket: } }\n',
    '{}'
  ]) {
    const config = await load(t, { file })
    t.same(
      [config.serf.port, config.join, config.overlay.ovs.socket],
      [7946, [], '/run/openvswitch/db.sock'],
      JSON.stringify(file)
    )
  }
})

const GOOD: readonly (readonly [key: string, text: string, value: unknown])[] = [
  ['name', 'a', 'a'],
  ['role', 'client', 'client'],
  ['bootstrapExpect', '1', 1],
  ['bootstrapExpect', '9', 9],
  ['join', '', []],
  ['join', '192.0.2.1', ['192.0.2.1']],
  ['join', '192.0.2.1:65535,', ['192.0.2.1:65535']],
  ['insecure', 'false', false],
  ['serf.port', '1', 1],
  ['p2p.port', '65535', 65_535],
  ['overlay.mtu', 'auto', 'auto'],
  ['overlay.mtu', '576', 576],
  ['overlay.mtu', '65485', 65_485],
  ['collectAfter', '86400', 86_400],
  ['namespaces.prefixLength', '10', 10],
  ['namespaces.prefixLength', '26', 26],
  ['bind', 'FD00:0::1', 'fd00::1'],
  ['bind', '2001:db8::1', '2001:db8::1'],
  ['overlay.vteps', '10.9.0.7/32,fd00::/48,fd00:1::7/128', ['10.9.0.7/32', 'fd00::/48', 'fd00:1::7/128']],
  ['http.listen', '0.0.0.0:1', '0.0.0.0:1'],
  ['http.listen', '[::]:7380', '[::]:7380'],
  ['http.listen', '[FD00:0::1]:7380', '[fd00::1]:7380'],
  ['zmq.rpc', 'tcp://[fd00::1]:1', 'tcp://[fd00::1]:1'],
  ['zmq.rpc', 'tcp://0.0.0.0:65535', 'tcp://0.0.0.0:65535'],
  ['zmq.rpc', 'ipc:///run/vxmesh/rpc.sock', 'ipc:///run/vxmesh/rpc.sock'],
  ['log.level', 'silent', 'silent']
]

t.test('values at the limits are accepted', async t => {
  for (const [key, text, value] of GOOD) {
    t.same(at(await load(t, { flags: { [key]: text } }), key), value, `${key} ${text}`)
  }
})

const BAD: readonly (readonly [key: string, text: string])[] = [
  ['name', ''],
  ['name', 'H1'],
  ['name', 'a.b'],
  ['name', '-a'],
  ['role', ''],
  ['role', 'Server'],
  ['bootstrapExpect', '0'],
  ['bootstrapExpect', '10'],
  ['bootstrapExpect', '3.0'],
  ['bootstrapExpect', '0x3'],
  ['join', 'host'],
  ['join', '192.0.2.1:0'],
  ['join', '192.0.2.1:65536'],
  ['join', '192.0.2.1:1:2'],
  ['join', '::1'],
  ['join', '[fd00::1]:0'],
  ['join', '[fd00::1'],
  ['bind', '::'],
  ['bind', '::1'],
  ['bind', 'ff02::1'],
  ['bind', 'fe80::1'],
  ['bind', 'fe80::1%eth0'],
  ['bind', 'fd00::1%eth0'],
  ['bind', '192.0.2.1%eth0'],
  ['bind', '[fd00::1]'],
  ['bind', '::ffff:192.0.2.1'],
  ['bind', 'fd00::1/64'],
  ['overlay.vtep', 'fd00::1'],
  ['overlay.vteps', 'fd00::1/64'],
  ['http.listen', '::1:80'],
  ['http.listen', '[::1]'],
  ['zmq.rpc', 'tcp://::1:1'],
  ['bind', '192.0.2.256'],
  ['bind', '192.0.02.1'],
  ['bind', '192.0.2'],
  ['dataDir', ''],
  ['dataDir', 'var'],
  ['socket', './agent.sock'],
  ['clusterKeyFile', 'key\0'],
  ['insecure', 'yes'],
  ['insecure', ''],
  ['serf.port', '0'],
  ['serf.rpcPort', '65536'],
  ['serf.binary', ''],
  ['p2p.port', '-1'],
  ['overlay.driver', 'vxlan'],
  ['overlay.vtep', 'auto'],
  ['overlay.vteps', '10.9.0.1'],
  ['overlay.mtu', '575'],
  ['collectAfter', '-1'],
  ['collectAfter', '86401'],
  ['namespaces.unmapped', 'deny'],
  ['namespaces.range', '10.128.0.1/10'],
  ['namespaces.range', '10.128.0.0'],
  ['namespaces.prefixLength', '9'],
  ['namespaces.prefixLength', '27'],
  ['namespaces.prefixLength', '31'],
  ['overlay.mtu', '65486'],
  ['overlay.transit', '240.0.0.0/9'],
  ['overlay.transit', '240.0.0.1/8'],
  ['overlay.transit', '240.0.0.0'],
  ['overlay.transit', '240.0.0/8'],
  ['overlay.transit', '240.0.0.0/8/8'],
  ['overlay.guard', 'on'],
  ['overlay.port', '4789/udp'],
  ['egress.local', '172.17.0.1/16'],
  ['egress.local', '172.17.0.0/33'],
  ['egress.local', 'docker0'],
  ['dns.zone', ''],
  ['dns.zone', 'a..b'],
  ['dns.search', '-a'],
  ['dns.search', 'a,b,c,d,e,f'],
  ['dns.upstreams', 'dns.example'],
  ['dns.upstreams', '192.0.2.53:0'],
  ['dns.queryRate', '9'],
  ['netns.paths', 'run/netns'],
  ['netns.paths', '/run/netns/'],
  ['netns.paths', '/run/../etc'],
  ['zmq.users', 'nobody'],
  ['zmq.users', '-1'],
  ['zmq.users', '4294967295'],
  ['zmq.requests', 'ipc://tmp/x'],
  ['zmq.events', 'tcp://127.0.0.1'],
  ['zmq.rpc', 'tcp://*:1'],
  ['zmq.rpc', 'ipc://rpc.sock'],
  ['zmq.rpc', `ipc:///${'x'.repeat(107)}`],
  ['zmq.rpc', 'inproc://x'],
  ['raft.snapshotBytes', '1k'],
  ['http.listen', '999.0.0.1:80'],
  ['http.listen', '127.0.0.1:65536'],
  ['http.listen', ':80'],
  ['log.level', 'verbose'],
  ['log.format', 'text']
]

t.test('an invalid value is refused with its key and origin', async t => {
  for (const [key, text] of BAD) {
    const error = await refusal(load(t, { flags: { [key]: text } }))
    t.match(error, { code: 'ERR_CONFIG', field: key }, `${key} ${text}`)
    t.ok(error.message.startsWith(`${key}: `) && error.message.endsWith(` (from ${flagOf(key)})`), error.message)
    t.notMatch(error.message, /Invalid input|expected/, error.message)
  }
})

t.test('bind, overlay.vtep and join are of one family, and the one that is not is named', async t => {
  const six = { bind: 'fd00::1' }
  const config = await load(t, { flags: { ...six, 'overlay.vtep': 'FD00::2', join: 'fd00::3,[fd00::4]:7000' } })
  t.same([config.bind, config.overlay.vtep, config.join], ['fd00::1', 'fd00::2', ['[fd00::3]', '[fd00::4]:7000']])
  t.equal((await load(t, { flags: six })).overlay.vtep, 'fd00::1')
  t.equal((await load(t, { file: 'bind: fd00::9', flags: { bind: 'fd00::1' } })).bind, 'fd00::1')
  for (const [flags, field, words] of [
    [{ ...six, 'overlay.vtep': '192.0.2.1' }, 'overlay.vtep', '192.0.2.1 and bind, fd00::1, must be of one family'],
    [{ ...six, join: 'fd00::2,192.0.2.2:7946' }, 'join', '192.0.2.2 and bind, fd00::1,'],
    [{ join: '192.0.2.2,fd00::2' }, 'join', 'fd00::2 and bind, 192.0.2.1,']
  ] as const) {
    const error = await refusal(load(t, { flags }))
    t.match(error, { code: 'ERR_CONFIG', field })
    t.ok(error.message.includes(words) && error.message.endsWith(`(from ${flagOf(field)})`), error.message)
  }
  const inFile = await refusal(load(t, { file: 'join: [fd00::1]' }))
  t.match(inFile.message, /^join: .*\(from .*config.yaml:1\)$/)
})

t.test('a link-local address is refused in words', async t => {
  for (const bind of ['fe80::1', 'fe80::1%eth0']) {
    const { message } = await refusal(load(t, { flags: { bind } }))
    t.match(message, /must be a unicast address that is valid beyond one link/)
  }
})

t.test('an invalid file is refused with the invalid key', async t => {
  for (const [file, field, words] of [
    ['rol: server', 'rol', 'is not a known key'],
    ['serf: { prot: 1 }', 'serf.prot', 'is not a known key'],
    ['serf: { port: { tcp: 1 } }', 'serf.port', 'must be a whole number'],
    ['serf: 7946', 'serf', 'must be a section with keys'],
    ['serf: [7946]', 'serf', 'must be a section with keys'],
    ['nothing:', 'nothing', 'is not a known key'],
    ['__proto__: { role: server }', '__proto__', 'is not a known key'],
    ['constructor: 1', 'constructor', 'is not a known key'],
    ['name: 7', 'name', 'got 7'],
    ['join: 192.0.2.1 192.0.2.2', 'join', 'must be an IPv4 address'],
    ['join: [[192.0.2.1]]', 'join', 'must be a list'],
    ['insecure: 1', 'insecure', 'must be true or false'],
    ['role: server\nrole: client', 'config', 'unique'],
    ['role: [server', 'config', 'config.yaml'],
    ['- role', 'config', 'must hold keys and values'],
    ['server', 'config', 'must hold keys and values'],
    ['a: &a [1]\nb: *a', 'config', 'Alias'],
    ['role: server\n---\nrole: client', 'config', 'document']
  ] as const) {
    const error = await refusal(load(t, { file }))
    t.match(error, { code: 'ERR_CONFIG', field }, file)
    t.ok(error.message.includes(words), `${file}: ${error.message}`)
  }
  t.equal(({} as Record<string, unknown>)['role'], undefined)
})

t.test('a scalar in place of a section is reported even if a flag sets a key in it', async t => {
  const error = await refusal(load(t, { file: 'serf: 7946', flags: { 'serf.port': '7001' } }))
  t.match(error, { code: 'ERR_CONFIG', field: 'serf' })
})

t.test('a misspelt variable is an error; those of other tools are not', async t => {
  const env = { VXMESH_ROL: 'server' }
  t.match(await refusal(load(t, { env })), { code: 'ERR_CONFIG', field: 'VXMESH_ROL' })
  await t.resolves(load(t, { env: { VXMESH_NODE: '/usr/bin/node', VXMESH_CONFIG: '/x', OTHER: '1' } }))
})

t.test('a missing required key is named', async t => {
  const none = loadConfig({ file: null, env: {}, flags: {} })
  t.match(await refusal(none), { code: 'ERR_CONFIG', field: 'bind', message: 'bind: is required' })
  const noFile = loadConfig({ file: '/nonexistent.yaml', env: {}, flags: {} })
  t.match(await refusal(noFile), { code: 'ERR_CONFIG', field: 'config', message: /\/nonexistent.yaml/ })
})

async function refusal(loading: Promise<unknown>): Promise<VxmeshError> {
  try {
    await loading
  } catch (err) {
    if (err instanceof VxmeshError) return err
    throw err
  }
  throw new Error('it was not refused')
}
