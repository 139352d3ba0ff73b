import t from 'tap'
import { parse as parseYaml } from 'yaml'
import { VxmeshError, type ErrorCode, type ExitCode } from '#model/errors.ts'
import { commandHelp } from '../../scripts/docs.ts'
import { served, vx } from './vx.ts'

const ATTACH = ['endpoint', 'attach', '--network', 'red', '--container-id', 'web']

t.test('every command has help on stdout, within 80 columns and with the shared flags', async t => {
  const paths = commandHelp().map(({ path }) => path)
  t.ok(paths.length >= 25, `${paths.length} commands`)
  for (const path of paths) {
    for (const flag of ['--help', '-h']) {
      const { code, out, err } = await vx([...path.split(' '), flag].filter(word => word !== ''))
      t.same([code, err], [0, ''], path)
      t.ok(out.startsWith(`Usage: vxmesh ${path}`.trim()), path)
      t.match(out, /--socket <path>[^]*--help/, path)
      const wide = out.split('\n').filter(line => line.length > 80 && !line.startsWith('Example: '))
      t.same(wide, [], `${path} fits`)
    }
  }
})

t.test('the commands with required arguments show an example', async t => {
  for (const path of [
    'agent',
    'keygen',
    'join',
    'network create',
    'endpoint attach',
    'service create',
    'service update',
    'namespace map',
    'cni install',
    'kv get',
    'snapshot save',
    'snapshot restore',
    'config show',
    'completion',
    'report'
  ]) {
    t.match((await vx([...path.split(' '), '--help'])).out, new RegExp(`\nExample: .*vxmesh ${path} ?`), path)
  }
})

t.test('`version` prints the version in each format', async t => {
  t.same(await vx(['version']), { code: 0, out: 'vxmesh 9.9.9\n', err: '' })
  t.same(await vx(['--version']), { code: 0, out: '9.9.9\n', err: '' })
  t.same(JSON.parse((await vx(['version', '-o', 'json'])).out), { version: '9.9.9' })
  t.same(parseYaml((await vx(['-o', 'yaml', 'version'])).out), { version: '9.9.9' })
})

/** Arguments that are refused before anything is sent: no agent is running. */
const WRONG: readonly (readonly [argv: readonly string[], words: RegExp])[] = [
  [['bogus'], /unknown command 'bogus'/],
  [['netwrk', 'list'], /unknown command 'netwrk' \(Did you mean network\?\)/],
  [['network', 'lst'], /unknown command 'lst' \(Did you mean list\?\)/],
  [['help'], /unknown command 'help'/],
  [['--bogus'], /unknown option '--bogus'/],
  [['status', '--bogus'], /unknown option '--bogus'/],
  [['status', 'extra'], /too many arguments for 'status'/],
  [['status', '-o'], /-o, --output <format>.* argument missing/],
  [['status', '-o', 'xml'], /'xml' is invalid. Allowed choices are table, json, yaml/],
  [['status', '--socket', ''], /--socket: must not be empty/],
  [['join'], /missing required argument 'address'/],
  [['join', 'host'], /ADDRESS: must be an IPv4 address/],
  [['join', '192.0.2.1', '192.0.2.2:99999'], /ADDRESS: must be ADDRESS or ADDRESS:PORT, got "192.0.2.2:99999"/],
  [['host', 'show'], /missing required argument 'name'/],
  [['host', 'show', 'H1'], /NAME: must be 1 to 63 lower-case/],
  [['host', 'remove', '../networks/red'], /NAME: must be/],
  [['network', 'create', '--subnet', '10.1.0.0/24'], /missing required argument 'name'/],
  [['network', 'create', 'blue'], /required option '--subnet <cidr>' not specified/],
  [['network', 'create', 'Blue', '--subnet', '10.1.0.0/24'], /NAME: must be/],
  [['network', 'create', 'a'.repeat(64), '--subnet', '10.1.0.0/24'], /NAME: must be/],
  [
    ['network', 'create', 'blue', '--subnet', '10.1.0.0/24', '--subnet', '10.2.0.0/24'],
    /--subnet: may be given once for each family/
  ],
  [
    ['network', 'create', 'blue', '--subnet', 'fd00:1::/64', '--subnet', '10.2.0.0/24', '--subnet', 'fd00:2::/64'],
    /--subnet: may be given once for each family/
  ],
  [['network', 'create', 'blue', '--subnet', 'fd00:1::5/64'], /--subnet: has host bits set; did you mean fd00:1::\/64/],
  [['network', 'create', 'blue', '--subnet', 'fd00:1::/127'], /--subnet: prefix length must be 48 to 126/],
  [['network', 'create', 'blue', '--subnet', '10.1.0.0'], /--subnet: must be a subnet like/],
  [['network', 'create', 'blue', '--subnet', '10.1.0.1/24'], /--subnet: has host bits set; did you mean 10.1.0.0\/24/],
  [['network', 'create', 'blue', '--subnet', '10.1.0.0/31'], /--subnet: prefix length must be 8 to 30/],
  [['network', 'create', 'blue', '--subnet', '224.0.0.0/8'], /--subnet: .* not a unicast range/],
  [['network', 'create', 'blue', '--subnet', '10.1.0.0/24', '--gateway', '10.1.0'], /--gateway: must be an IPv4/],
  [['network', 'create', 'blue', '--subnet', '10.1.0.0/24', '--vni', '0'], /--vni: must be a whole number from 1 to/],
  [['network', 'create', 'blue', '--subnet', '10.1.0.0/24', '--vni', '16777216'], /--vni: must be a whole number/],
  [['network', 'create', 'blue', '--subnet', '10.1.0.0/24', '--vni', '0x10'], /--vni: must be a whole number/],
  [['network', 'create', 'blue', '--subnet', '10.1.0.0/24', '--mtu', '575'], /--mtu: must be a whole number from 576/],
  [['network', 'create', 'blue', '--subnet', '10.1.0.0/24', '--egress-rate', '10'], /--egress-rate: must be 0/],
  [
    ['network', 'create', 'blue', '--subnet', '10.1.0.0/24', '--egress-rate', '10 mbit'],
    /--egress-rate: must be a num/
  ],
  [['network', 'update', 'blue'], /give at least one of --egress-rate, --egress-v6, --add-subnet/],
  [['network', 'update', 'blue', '--add-subnet', 'fd00:1::'], /--add-subnet: must be a subnet like/],
  [['network', 'update', 'blue', '--egress-rate', 'fast'], /--egress-rate: must be a number with a unit like 10mbit/],
  [['network', 'delete'], /missing required argument 'name'/],
  [['endpoint', 'attach', '--network', 'red'], /required option '--container-id <id>'/],
  [['endpoint', 'attach', '--container-id', 'web'], /required option '--network <name>'/],
  [ATTACH, /give either --netns or --pid/],
  [[...ATTACH, '--netns', '/proc/self/ns/net', '--pid', '1'], /give either --netns or --pid/],
  [[...ATTACH, '--netns', 'no-such-name'], /--netns: there is no namespace \/run\/netns\/no-such-name/],
  [[...ATTACH, '--netns', '/no/such/path'], /--netns: there is no namespace \/no\/such\/path/],
  [[...ATTACH, '--netns', '../etc'], /--netns: must be an absolute path or a name of ip netns/],
  [[...ATTACH, '--netns', ''], /--netns: must be an absolute path/],
  [[...ATTACH, '--pid', '0'], /--pid: must be a whole number from 1/],
  [[...ATTACH, '--pid', 'init'], /--pid: must be a whole number/],
  [[...ATTACH, '--pid', '1', '--ip', '10.1.0.256'], /--ip: must be an IPv4 address/],
  [[...ATTACH, '--pid', '1', '--ip', '10.1.0.5', '--ip', '10.1.0.6'], /--ip: may be given once for each family/],
  [[...ATTACH, '--pid', '1', '--ip', 'fd00::5', '--ip', 'fd00::0:6'], /--ip: may be given once for each family/],
  [[...ATTACH, '--pid', '1', '--ip', 'fd00::g'], /--ip: must be an IPv6 address/],
  [[...ATTACH, '--pid', '1', '--ip', 'fd00::5/64'], /--ip: must be an IPv6 address/],
  [[...ATTACH, '--pid', '1', '--mac', '02:00:00:00:00'], /--mac: /],
  [[...ATTACH, '--pid', '1', '--ifname', 'sixteen-letters-'], /--ifname: must be 1 to 15/],
  [[...ATTACH, '--pid', '1', '--ingress-rate', '2tbit'], /--ingress-rate: must be 0/],
  [[...ATTACH, '--pid', '1', '--egress-rate', '-1'], /--egress-rate: must be a number/],
  [[...ATTACH, '--pid', '1', '--delay', '2h'], /--delay: must be a number with a unit like 10ms/],
  [[...ATTACH, '--pid', '1', '--name', 'n'.repeat(257)], /--name: must be at most 256 characters/],
  [['endpoint', 'attach', '--network', 'red', '--container-id', '-x', '--pid', '1'], /--container-id/],
  [[...ATTACH, '--pid', '1', '--label', 'app'], /--label: must be KEY=VALUE, got "app"/],
  [[...ATTACH, '--pid', '1', '--label', '=web'], /--label: the name of a key must be 1 to 63/],
  [[...ATTACH, '--pid', '1', '--label', 'A_b/app=web'], /--label: the prefix of a key must be a DNS name/],
  [[...ATTACH, '--pid', '1', '--label', 'app=a b'], /--label: a value must be empty or 1 to 63/],
  [[...ATTACH, '--pid', '1', '--label', 'app=a', '--label', 'app=b'], /--label: "app" is given twice/],
  [['endpoint', 'update', 'web'], /give at least one of .*--label, --unlabel/],
  [['endpoint', 'update', 'web', '--unlabel', 'app=web'], /--unlabel: the name of a key must be/],
  [['endpoint', 'update', 'web', '--label', 'app=a', '--unlabel', 'app'], /--unlabel: "app" is given twice/],
  [['endpoint', 'list', '--label', 'a b'], /--label: the name of a key must be/],
  [['endpoint', 'detach'], /required option '--container-id <id>'/],
  [['endpoint', 'show', 'a/b'], /CONTAINER-ID: must start with/],
  [['endpoint', 'list', '--network', 'RED'], /--network: must be/],
  [['events', '-o', 'yaml'], /--output: must be table or json for events/],
  [['namespace', 'map', 'shop'], /missing required argument 'network'/],
  [['namespace', 'map', 'Shop', 'red'], /NS: must be 1 to 63 lower-case/],
  [['namespace', 'map', 'shop', 'RED'], /NETWORK: must be/],
  [['namespace', 'map', 'shop', 'red', '--grant', 'RED'], /--grant: must be/],
  [['namespace', 'unmap', '../networks/red'], /NS: must be/],
  [['cni', 'install', '--bin-dir', 'relative'], /--bin-dir: must be an absolute path/],
  [['cni', 'install', '--network', 'RED'], /--network: must be/],
  [['cni', 'uninstall', '--conf-dir', ''], /--conf-dir: must be an absolute path/],
  [['kv', 'get'], /missing required argument 'key'/],
  [['kv', 'get', 'a b'], /KEY: must be at most 256/],
  [['kv', 'list', 'x'.repeat(257)], /PREFIX: must be at most 256/],
  [['kv', 'list', 'a', 'b'], /too many arguments for 'list'/],
  [['snapshot', 'save'], /missing required argument 'file'/],
  [['snapshot', 'restore', '/x', '--data-dir', 'relative'], /--data-dir: must be an absolute path/],
  [['snapshot', 'inspect', '/x', '/y'], /too many arguments for 'inspect'/],
  [['report', '/x', '/y'], /too many arguments for 'report'/],
  [['config', 'show', 'x'], /too many arguments for 'show'/],
  [['completion', 'tcsh'], /Allowed choices are bash, zsh, fish/],
  [['reload', 'extra'], /too many arguments for 'reload'/],
  [['raft', 'peers', 'extra'], /too many arguments for 'peers'/],
  [['agent', 'extra'], /too many arguments for 'agent'/]
]

t.test('a usage error exits with 2, one line on stderr that names the argument, and nothing on stdout', async t => {
  t.ok(WRONG.length >= 30)
  const env = { VXMESH_SOCKET: '/nonexistent/agent.sock' }
  for (const [argv, words] of WRONG) {
    const { code, out, err } = await vx(argv, { env })
    const title = argv.join(' ').slice(0, 100)
    t.same([code, out], [2, ''], title)
    t.match(err, words, title)
    t.match(err, /^vxmesh: [^\n]+ \[ERR_(USAGE|NETNS)\]\n$/, title)
  }
})

t.test('a command group without a subcommand prints help on stderr', async t => {
  for (const path of [
    [],
    ['network'],
    ['endpoint'],
    ['service'],
    ['host'],
    ['raft'],
    ['namespace'],
    ['kv'],
    ['snapshot'],
    ['config'],
    ['cni']
  ]) {
    const { code, out, err } = await vx(path)
    t.same([code, out], [2, ''], path.join(' '))
    t.match(err, /^Usage: vxmesh/, path.join(' '))
  }
})

t.test('without an agent every API command exits with 3 and names the socket', async t => {
  const flags = ['--socket', '/nonexistent/agent.sock']
  for (const argv of [
    ['status'],
    ['members'],
    ['leave'],
    ['reload'],
    ['join', '192.0.2.1'],
    ['host', 'list'],
    ['raft', 'peers'],
    ['kv', 'list'],
    ['snapshot', 'save', '/nonexistent/b.snap'],
    ['kv', 'get', 'vlanStore'],
    ['events'],
    ['network', 'create', 'blue', '--subnet', '10.1.0.0/24'],
    ['endpoint', 'detach', '--container-id', 'web']
  ]) {
    for (const line of [
      [...flags, ...argv],
      [...argv, ...flags]
    ]) {
      const { code, out, err } = await vx(line, { env: { VXMESH_SOCKET: '/elsewhere.sock' } })
      t.same([code, out], [3, ''], line.join(' '))
      t.match(err, /no agent answers on \/nonexistent\/agent.sock .*\[ERR_AGENT_UNREACHABLE\]/, line.join(' '))
    }
  }
  t.match((await vx(['status'], { env: { VXMESH_SOCKET: '/elsewhere.sock' } })).err, /\/elsewhere.sock/)
})

t.test('a refusal of the state machine exits with the code of its kind', async t => {
  const { env } = await served(t)
  await vx([...ATTACH, '--pid', '1', '--ip', '10.1.0.9', '--mac', '02:aa:00:00:00:01'], { env })
  for (const [argv, code, words] of [
    [['network', 'show', 'nope'], 4, /there is no network nope \[ERR_NETWORK_NOT_FOUND\]/],
    [['network', 'update', 'nope', '--egress-rate', '0'], 4, /ERR_NETWORK_NOT_FOUND/],
    [['network', 'delete', 'nope'], 4, /ERR_NETWORK_NOT_FOUND/],
    [['namespace', 'map', 'shop', 'nope'], 4, /ERR_NETWORK_NOT_FOUND/],
    [['namespace', 'unmap', 'shop'], 4, /ERR_NAMESPACE_NOT_FOUND/],
    [['endpoint', 'list', '--network', 'nope'], 4, /ERR_NETWORK_NOT_FOUND/],
    [['endpoint', 'show', 'nope'], 4, /ERR_ENDPOINT_NOT_FOUND/],
    [['endpoint', 'show', 'web', '--ifname', 'eth1'], 4, /ERR_ENDPOINT_NOT_FOUND/],
    [['endpoint', 'detach', '--container-id', 'nope'], 4, /ERR_ENDPOINT_NOT_FOUND/],
    [['endpoint', 'update', 'nope', '--unlabel', 'app'], 4, /ERR_ENDPOINT_NOT_FOUND/],
    [['endpoint', 'update', 'web', '--label', 'app=web'], 1, /labels need every host .* \[ERR_UNSUPPORTED\]/],
    [['kv', 'get', 'network/nope'], 4, /there is no key network\/nope \[ERR_KEY_NOT_FOUND\]/],
    [['kv', 'get', '../networks/red'], 4, /there is no key ..\/networks\/red/],
    [['kv', 'get', 'a%2f?b#c'], 4, /there is no key a%2f\?b#c /],
    [['host', 'show', 'nope'], 4, /ERR_HOST_NOT_FOUND/],
    [['host', 'remove', 'nope'], 4, /ERR_HOST_NOT_FOUND/],
    [['network', 'create', 'red', '--subnet', '10.2.0.0/24'], 5, /network red already exists.*ERR_NETWORK_EXISTS/],
    [['network', 'create', 'blue', '--subnet', '10.2.0.0/24', '--vni', '4096'], 5, /ERR_VNI_IN_USE/],
    [['network', 'delete', 'red'], 5, /network red has 1 endpoint \[ERR_NETWORK_IN_USE\]/],
    [[...ATTACH, '--pid', '1', '--ip', '10.1.0.8'], 5, /ERR_ENDPOINT_EXISTS/],
    [['endpoint', 'attach', '--network', 'red', '--container-id', 'b', '--pid', '1', '--ip', '10.1.0.9'], 5, /IN_USE/],
    [
      ['endpoint', 'attach', '--network', 'red', '--container-id', 'b', '--pid', '1', '--mac', '02:aa:00:00:00:01'],
      5,
      /ERR_MAC_IN_USE/
    ],
    [['network', 'create', 'blue', '--subnet', '10.2.0.0/24', '--gateway', '10.3.0.1'], 2, /gateway: .*ERR_INVALID/],
    [
      ['endpoint', 'attach', '--network', 'red', '--container-id', 'b', '--pid', '1', '--ip', '10.9.0.9'],
      2,
      /address: .*ERR_INVALID/
    ]
  ] as const satisfies readonly (readonly [readonly string[], ExitCode, RegExp])[]) {
    const run = await vx(argv, { env })
    t.same([run.code, run.out], [code, ''], argv.join(' '))
    t.match(run.err, words, argv.join(' '))
  }
})

t.test('an error of the cluster exits with the code of its kind', async t => {
  const { agent, env } = await served(t)
  const codes: readonly (readonly [ErrorCode, ExitCode])[] = [
    ['ERR_NO_QUORUM', 6],
    ['ERR_NOT_LEADER', 6],
    ['ERR_CHECK_FAILED', 7],
    ['ERR_SUBNET_EXHAUSTED', 1],
    ['ERR_VNI_EXHAUSTED', 1],
    ['ERR_HOST_NOT_REGISTERED', 1],
    ['ERR_JOIN_FAILED', 1],
    ['ERR_KERNEL', 1],
    ['ERR_UNSUPPORTED', 1],
    ['ERR_BUSY', 1],
    ['ERR_TIMEOUT', 1],
    ['ERR_IFNAME_IN_USE', 5],
    ['ERR_NETNS', 2]
  ]
  for (const [code, exit] of codes) {
    agent.refusal = new VxmeshError(code, 'this is why')
    const argv = ['network', 'create', 'blue', '--subnet', '10.2.0.0/24']
    t.same(await vx(argv, { env }), { code: exit, out: '', err: `vxmesh: this is why [${code}]\n` }, code)
  }
})

t.test('with -o json an error is JSON on stderr', async t => {
  const { env } = await served(t)
  for (const flags of [['-o', 'json'], ['-ojson'], ['--output', 'json'], ['--output=json']]) {
    const { code, out, err } = await vx(['network', 'create', 'red', '--subnet', '10.2.0.0/24', ...flags], { env })
    t.same([code, out], [5, ''], flags.join(' '))
    t.match(JSON.parse(err), { error: { code: 'ERR_NETWORK_EXISTS', field: 'name' } }, flags.join(' '))
  }
  const { err } = await vx([...ATTACH, '--pid', '0', '-o', 'json'])
  t.match(JSON.parse(err), { error: { code: 'ERR_USAGE', field: '--pid' } })
})
