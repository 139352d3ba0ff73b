import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parse as parseYaml } from 'yaml'
import { configShape } from '#config/schema.ts'
import { commandHelp } from '../../scripts/docs.ts'
import { buildPlugin } from '../cni/plugin.ts'
import { scratch } from '../api/scratch.ts'
import { served, vx } from './vx.ts'

const NETWORK = [
  ...['name', 'vni', 'subnet', 'subnets', 'gateway', 'gateways', 'egressRate', 'mtu', 'egress', 'hostAccess'],
  ...['egressV6', 'endpoints']
]
const ENDPOINT = [
  ...['network', 'containerId', 'name', 'ifname', 'host', 'address', 'gateway', 'mac', 'vni', 'mtu', 'hostInterface'],
  ...[
    'addresses',
    'gateways',
    'ingressRate',
    'egressRate',
    'delayUs',
    'rxBytes',
    'txBytes',
    'rxPackets',
    'txPackets',
    'rxRate',
    'txRate'
  ],
  ...['hostIfindex', 'installed', 'labels', 'dns']
]
const MEMBER = ['name', 'address', 'status', 'role', 'vtep', 'peerId']
const HOST = ['name', 'peerId', 'vtep', 'role', 'status', 'endpoints', 'version']
const PEER = ['name', 'peerId', 'address', 'state', 'voter', 'matchIndex']
const STATUS = [
  'host',
  'peerId',
  'cluster',
  'version',
  'ready',
  'trouble',
  'raft',
  'members',
  'networks',
  'endpoints',
  'overlay',
  'digest',
  'differsAt'
]

const SNAPSHOT = [
  ...['file', 'bytes', 'version', 'cluster', 'index', 'term', 'digest', 'servers', 'hosts', 'networks', 'endpoints'],
  'namespaces',
  'services',
  'policies'
]

const NAMESPACE = ['namespace', 'network', 'grants']
const SERVICE = ['network', 'name', 'addresses', 'ports', 'affinitySeconds', 'select', 'backends', 'endpoints']

const SETTINGS = Object.keys(configShape.shape)

await buildPlugin()

/** Commands in the order in which they run on one state; `keys` are those of the object, or of each list element. */
const COMMANDS: readonly (readonly [line: string, keys: readonly string[], heading: RegExp])[] = [
  ['status', STATUS, /^host {7}h1 \(/],
  [
    'doctor',
    ['host', 'failed', 'findings'],
    /^h1: 0 failed, 1 warning, 1 ok\n\? clock +h2 ahead by 3.0 s\n {10}run a time/
  ],
  ['members', MEMBER, /^NAME +ADDRESS +STATUS +ROLE +VTEP +PEER ID\n/],
  ['raft add h2', PEER, /^NAME +ADDRESS/],
  ['raft remove h2', PEER, /^NAME +ADDRESS/],
  ['raft transfer h2', PEER, /^NAME +ADDRESS/],
  ['raft peers', PEER, /^NAME +ADDRESS +STATE +VOTER +MATCH INDEX +PEER ID\n/],
  ['host list', HOST, /^NAME +VTEP +ROLE +STATUS +ENDPOINTS +VERSION +PEER ID\n/],
  ['host show h2', HOST, /^NAME +VTEP/],
  ['network create blue --subnet 10.2.0.0/16 --egress-rate 10mbit', NETWORK, /^NAME +VNI +SUBNET/],
  ['network list', NETWORK, /^NAME +VNI +SUBNET +GATEWAY +MTU +EGRESS +ENDPOINTS\n/],
  ['network show red', NETWORK, /^name +red\nvni +4096\nsubnet +10.1.0.0\/24 via 10.1.0.1\nmtu +1450\n/],
  ['network update red --egress-rate 1gbit', NETWORK, /1gbit/],
  ['endpoint attach --network red --container-id web --pid 1 --name shop', ENDPOINT, /^container +web\nname +shop\n/],
  ['endpoint list', ENDPOINT, /^NETWORK +CONTAINER +NAME +IFNAME +HOST +ADDRESS +RX +TX\n/],
  ['endpoint list --network red', ENDPOINT, /\nred +web +shop +eth0 +h1 +10.1.0.2\/24 +- +-\n$/],
  ['endpoint update web --delay 10ms', ENDPOINT, /^delay +10000 us$/m],
  ['endpoint show web', ENDPOINT, /address +10.1.0.2\/24 via 10.1.0.1\n/],
  ['service create api --network red --port 80:8080 --select app=api', SERVICE, /^name +api\nnetwork +red\n/],
  ['service list', SERVICE, /^NETWORK +NAME +ADDRESS +PORTS +BACKENDS +ENDPOINTS\n/],
  ['service show api --network red', SERVICE, /\nselect +app=api\n/],
  ['service update api --network red --affinity 9', SERVICE, /\naffinity +9 s\n/],
  ['service delete api --network red', SERVICE, /^service api of network red deleted\n$/],
  ['namespace map shop red', NAMESPACE, /^NAMESPACE +NETWORK +GRANTS\nshop +red/],
  ['namespace list', NAMESPACE, /^NAMESPACE +NETWORK +GRANTS\nshop +red/],
  ['namespace unmap shop', NAMESPACE, /^namespace shop unmapped\n$/],
  ['cni install --bin-dir DIR/bin --conf-dir DIR/conf', ['files'], /^\/.*vxmesh-cni installed\n/],
  ['cni uninstall --bin-dir DIR/bin --conf-dir DIR/conf', ['files'], /conflist removed\n/],
  [
    'kv list',
    ['key', 'value'],
    /^KEY +VALUE\nendpoint\/red\/web\/eth0 +10.1.0.2 h1\n[^]*\nvlanStore +\d+ of 16777216 used\n$/
  ],
  ['kv list ipStore/', ['key', 'value'], /^KEY +VALUE\nipStore\/blue +0 of 65536 used\nipStore\/red +1 of 256 used\n$/],
  ['kv get endpoint/red/web/eth0', ['key', 'value'], /^key +endpoint\/red\/web\/eth0\nnetwork +red\n/],
  ['kv get ipStore/red', ['key', 'value'], /\nset +10.1.0.0-10.1.0.2 10.1.0.255-10.1.0.255\n/],
  ['snapshot save DIR/b.snap', SNAPSHOT, /^file +\/.*b.snap\nbytes +\d+, form 2\ncluster +c0ffee\n/],
  ['snapshot inspect DIR/b.snap', SNAPSHOT, /\nservers +h1\nhosts +2\nnetworks +2\nendpoints +1\n/],
  ['snapshot restore DIR/b.snap --data-dir DIR/data', SNAPSHOT, /\nnetworks +2\nendpoints +1\n/],
  ['endpoint detach --container-id web', ENDPOINT, /^10.1.0.2\/24 released\n$/],
  ['network delete blue', NETWORK, /^network blue deleted\n$/],
  ['host remove h2', HOST, /^host h2 removed, 0 endpoints released\n$/],
  ['config validate --name h1 --bind 192.0.2.1 --no-key-files', ['valid'], /^the settings are valid\n$/],
  ['config show --name h1 --bind 192.0.2.1', SETTINGS, /^KEY +VALUE\nname +h1\nrole +client\n/],
  [
    'config show --origin --name h1 --bind 192.0.2.1',
    ['key', 'value', 'origin'],
    /^KEY +VALUE +ORIGIN\nname +h1 +--name\n/
  ],
  [
    'report DIR/r.tar.gz --name h1 --bind 192.0.2.1 --insecure',
    ['file', 'bytes', 'parts', 'missing'],
    /^file +\/.*r.tar.gz\nbytes +\d+\nparts +\d+\nmissing +\w/
  ],
  ['join 192.0.2.1', ['joined'], /^joined through 1 host\n$/],
  ['reload', ['changed', 'restart'], /^changed +log.level\nrestart +bind, serf.port\n$/],
  ['version', ['version'], /^vxmesh 9.9.9\n$/],
  ['leave', [], /^left\n$/]
]

/** Commands without a result, with the test file that covers each. */
const NO_RESULT: Readonly<Record<string, string>> = {
  agent: 'agent-command.test.ts',
  keygen: 'agent-command.test.ts',
  events: 'process.test.ts',
  completion: 'complete.test.ts',
  complete: 'complete.test.ts'
}

t.test('every command is in this table, or has no result and is tested elsewhere', t => {
  const paths = commandHelp().map(({ path }) => path)
  const commands = paths.filter(path => path !== '' && !paths.some(other => other.startsWith(`${path} `)))
  const missing = commands.filter(path => !COMMANDS.some(([line]) => line === path || line.startsWith(`${path} `)))
  t.same(missing.sort(), Object.keys(NO_RESULT).sort())
  for (const [command, file] of Object.entries(NO_RESULT)) {
    t.match(readFileSync(join(import.meta.dirname, file), 'utf8'), new RegExp(`['"]${command}['"]`), command)
  }
  t.end()
})

t.test('each result prints as a table, and as JSON and YAML with exactly these keys', async t => {
  for (const format of ['table', 'json', 'yaml']) {
    // Each format on a separate state, since commands change it.
    const { agent, env } = await served(t)
    agent.caller.raise()
    const dir = scratch(t)
    for (const [line, keys, heading] of COMMANDS) {
      const { code, out, err } = await vx([...line.replaceAll('DIR', dir).split(' '), '-o', format], { env })
      t.same([code, err], [0, ''], `${line} -o ${format}`)
      if (format === 'table') {
        t.match(out, heading, line)
        t.notOk(
          out.split('\n').some(text => text.length > 80 || text !== text.trimEnd()),
          `${line} fits 80 columns`
        )
      } else {
        const value: unknown = format === 'json' ? JSON.parse(out) : parseYaml(out)
        const rows = (Array.isArray(value) ? value : [value]) as object[]
        t.ok(rows.length > 0, line)
        for (const row of rows) t.same(Object.keys(row).sort(), [...keys].sort(), `${line} -o ${format}`)
      }
    }
  }
})

t.test('the nested keys of status are as documented', async t => {
  const { env } = await served(t)
  const status = JSON.parse((await vx(['status', '-o', 'json'], { env })).out) as Record<string, object>
  t.same(Object.keys(status['raft'] ?? {}), ['role', 'term', 'leader', 'commitIndex', 'appliedIndex'])
  t.same(Object.keys(status['members'] ?? {}), ['alive', 'failed'])
  t.same(Object.keys(status['overlay'] ?? {}), [
    'driver',
    'guard',
    'noPrograms',
    'noServices',
    'drift',
    'degraded',
    'repaired'
  ])
})

t.test('an empty list prints the heading only, or an empty JSON or YAML list', async t => {
  const { env } = await served(t)
  t.match((await vx(['endpoint', 'list'], { env })).out, /^NETWORK[^\n]*\n$/)
  t.equal((await vx(['endpoint', 'list', '-o', 'json'], { env })).out, '[]\n')
  t.equal((await vx(['endpoint', 'list', '-o', 'yaml'], { env })).out, '[]\n')
})

t.test('a container with several interfaces is shown as a list', async t => {
  const { env } = await served(t)
  for (const ifname of ['eth0', 'eth1']) {
    const line = `endpoint attach --network red --container-id web --pid 1 --ifname ${ifname}`
    t.equal((await vx(line.split(' '), { env })).code, 0)
  }
  const shown = async (...flags: string[]): Promise<unknown> =>
    JSON.parse((await vx(['endpoint', 'show', 'web', '-o', 'json', ...flags], { env })).out)
  t.match(await shown(), [{ ifname: 'eth0' }, { ifname: 'eth1' }])
  t.match(await shown('--ifname', 'eth1'), { ifname: 'eth1', address: '10.1.0.3/24' })
})

t.test('the flags of attach and create reach the agent with their meaning', async t => {
  const { agent, env } = await served(t)
  const create = 'network create blue --subnet 10.2.0.0/16 --gateway 10.2.0.9 --vni 77 --egress-rate 1gbit --mtu 1400'
  await vx([...create.split(' '), '--no-egress', '--host-access'], { env })
  const attach = 'endpoint attach --network blue --container-id web --netns /proc/self/ns/net --ip 10.2.0.5'
  const more =
    '--mac 02:00:00:00:00:05 --ingress-rate 10mbit --egress-rate 5mbit --delay 10ms --name shop --ifname net1'
  await vx([...attach.split(' '), ...more.split(' ')], { env })
  t.match(agent.asked, [
    { name: 'blue', gateway: 0x0a020009, vni: 77, egressRate: 1e9, mtu: 1400, egress: false, hostAccess: true },
    {
      ...{ network: 'blue', containerId: 'web', netns: '/proc/self/ns/net', address: 0x0a020005, name: 'shop' },
      ...{ mac: '02:00:00:00:00:05', ingressRate: 10e6, egressRate: 5e6, delayUs: 10_000, ifname: 'net1' }
    }
  ])
})

t.test('the flags of both families reach the agent, and what it answers is shown', async t => {
  const { agent, env } = await served(t)
  agent.caller.raise()
  const ran = async (line: string, columns?: number): Promise<string> => {
    const { code, out, err } = await vx(line.split(' '), columns === undefined ? { env } : { env, io: { columns } })
    t.equal(code, 0, err)
    return out
  }
  await ran('network create both --subnet fd00:2::/64 --subnet 10.2.0.0/24')
  await ran('network create six --subnet fd00:6::/64')
  t.match(await ran('network update red --add-subnet fd00:1::/64'), /10\.1\.0\.0\/24 fd00:1::\/64/)
  t.match(
    await ran('endpoint attach --network both --container-id web --pid 1 --ip fd00:2::77 --ip 10.2.0.9'),
    /\naddress +10\.2\.0\.9\/24 via 10\.2\.0\.1\naddress +fd00:2::77\/64 via fd00:2::1\n/
  )
  await ran('endpoint attach --network six --container-id db --pid 1 --ip fd00:6::9')
  t.match(agent.asked, [
    { name: 'both', subnet: { prefixLength: 24 }, subnet6: { base: 'fd00:2::', prefixLength: 64 } },
    { name: 'six', subnet: { base: 'fd00:6::' } },
    { method: 'networkUpdate', args: ['red', { addSubnet: { base: 'fd00:1::' } }] },
    { address: 0x0a020009, address6: 'fd00:2::77' },
    { address: 'fd00:6::9' }
  ])
  t.match(await ran('network show both'), /\nsubnet +10.2.0.0\/24 via 10.2.0.1\nsubnet +fd00:2::\/64 via fd00:2::1\n/)
  t.match(await ran('endpoint list'), / 10\.2\.0\.9\/24 fd00:2::77\/64 /, 'a pipe gets all')
  for (const [line, cell] of [
    ['endpoint list', / 10\.2\.0\.9\/24 \+1 /],
    ['network list', / 10\.2\.0\.0\/24 \+1 +10\.2\.0\.1 \+1 /]
  ] as const) {
    const narrow = await ran(line, 80)
    for (const text of narrow.split('\n')) t.ok(text.length <= 80, text)
    t.match(narrow, line === 'endpoint list' ? / 10\.2\.0\.9\/24 (\+1|fd00)/ : / 10\.2\.0\.0\/24 (\+1|fd00)/)
    t.match(await ran(line, 70), cell, 'compact where both do not fit')
  }
  t.match(await ran('kv list endpoint/both/'), / 10\.2\.0\.9 fd00:2::77 h1\n/)
  t.match(await ran('kv list network/both'), / 4097 10\.2\.0\.0\/24 fd00:2::\/64\n/)
  t.equal(await ran('endpoint detach --container-id web'), '10.2.0.9/24 and fd00:2::77/64 released\n')
})

t.test('tables fit the terminal, in colour if enabled; pipes get the full width', async t => {
  const { env } = await served(t)
  const line = `endpoint attach --network red --container-id web --pid 1 --name ${'n'.repeat(60)}`
  await vx(line.split(' '), { env })
  const piped = await vx(['host', 'list'], { env })
  for (const columns of [56, 64, 200]) {
    const { out } = await vx(['host', 'list'], { env, io: { columns } })
    for (const text of out.split('\n')) t.ok(text.length <= columns, `${columns}: ${text}`)
  }
  t.equal((await vx(['host', 'list'], { env, io: { columns: 200 } })).out, piped.out)
  const one = await vx(['host', 'show', 'h1'], { env, io: { columns: 56 } })
  for (const text of one.out.split('\n')) t.ok(text.length <= 56, text)
  t.notMatch((await vx(['status'], { env, io: { color: true } })).out, '\u001b', 'no problem to show')
})

t.test('labels are given, changed, shown and searched for', async t => {
  const { agent, env } = await served(t)
  agent.caller.raise()
  const ran = async (line: string): Promise<string> => {
    const { code, out, err } = await vx(line.split(' '), { env })
    t.equal(code, 0, `${line}: ${err}`)
    return out
  }
  const attach = 'endpoint attach --network red --pid 1 --container-id'
  t.match(
    await ran(`${attach} web --label app=web --label example.com/tier=front --label empty=`),
    /\nlabels +app=web\n +empty=\n +example.com\/tier=front\nreceived/
  )
  t.notMatch(await ran(`${attach} plain`), /labels/)
  await ran('endpoint update web --label app=shop --label zone=a --unlabel empty --unlabel none')
  t.strictSame((JSON.parse(await ran('endpoint show web -o json')) as { labels: unknown }).labels, {
    app: 'shop',
    'example.com/tier': 'front',
    zone: 'a'
  })
  const ids = async (line: string): Promise<unknown> =>
    (JSON.parse(await ran(`${line} -o json`)) as { containerId: string }[]).map(({ containerId }) => containerId)
  t.same(await ids('endpoint list'), ['web', 'plain'])
  t.same(await ids('endpoint list --label app=shop'), ['web'])
  t.same(await ids('endpoint list --network red --label app --label example.com/tier=front'), ['web'])
  t.same(await ids('endpoint list --label app=shop --label empty'), [])
  t.match(await ran('endpoint list --label zone'), /\nred +web /)
  await ran('endpoint update plain --egress-rate 10mbit --label app=plain')
  t.match(await ran('kv get endpoint/red/plain/eth0'), /\nlabels +\{"app":"plain"\}\n/)
})
