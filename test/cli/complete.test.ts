import { execFile } from 'node:child_process'
import { createServer } from 'node:net'
import { once } from 'node:events'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { scratch } from '../api/scratch.ts'
import { served, vx, type Run } from './vx.ts'

const VXMESH = resolve(import.meta.dirname, '../../bin/vxmesh')
const run = promisify(execFile)

const ask = (words: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Run> =>
  vx(['complete', '--', ...words], { env: { VXMESH_SOCKET: '/nonexistent/agent.sock', ...env } })

const wordsOf = (out: string): string[] =>
  out
    .split('\n')
    .filter(line => line !== '')
    .map(line => line.split('\t')[0] ?? '')

/** Completions that need no agent. */
const NEXT: readonly (readonly [words: readonly string[], next: readonly string[]])[] = [
  [['netw'], ['network']],
  [['network', 'l'], ['list']],
  [['network', 'list', 'x'], []],
  [
    ['raft', ''],
    ['peers', 'add', 'remove', 'transfer']
  ],
  [['snapshot', 'save', ''], [':files']],
  [['snapshot', 'restore', 'b.snap', '--data-dir', '/va'], [':files']],
  [['agent', '--config', ''], [':files']],
  [['agent', '--cluster-key-file', ''], [':files']],
  [
    ['agent', '--role', ''],
    ['server', 'client']
  ],
  [['agent', '--role=s'], ['--role=server']],
  [['agent', '--role', '=', 's'], ['server']],
  [
    ['agent', '--role', '='],
    ['server', 'client']
  ],
  [
    ['network', 'create', 'blue', '--e'],
    ['--egress-rate', '--egress-v6']
  ],
  [['network', 'update', 'blue', '--add'], ['--add-subnet']],
  [['network', 'create', 'blue', '--subnet', '10.1.0.0/16', '--sub'], ['--subnet']],
  [['network', 'update', 'blue', '--add-subnet', ''], []],
  [['network', 'create', '--mtu', '1400', 'blue', '--no'], ['--no-egress']],
  [
    ['status', '-o', ''],
    ['table', 'json', 'yaml']
  ],
  [['-o', 'json', 'stat'], ['status']],
  [['status', '--output=j'], ['--output=json']],
  [
    ['completion', ''],
    ['bash', 'zsh', 'fish']
  ],
  [['join', '192.0.2.1', ''], []],
  [['nonsense', ''], []],
  [['comple'], ['completion']],
  [['network', 'show', ''], []],
  [['network', 'show', '$(reboot)'], []],
  [['--', '--', ''], []]
]

t.test('completions follow from the command tree, and are empty where nothing is known', async t => {
  for (const [words, next] of NEXT) {
    const { code, out, err } = await ask(words)
    t.same([code, err], [0, ''], words.join(' '))
    if (words[0] === '--' || words[0] === 'nonsense') t.notMatch(out, /\bERR_/)
    else t.same(wordsOf(out), next, words.join(' '))
  }
  const { out } = await ask([''])
  for (const word of ['agent', 'network', 'kv', 'snapshot']) t.ok(wordsOf(out).includes(word), word)
  t.notOk(wordsOf(out).includes('complete'), 'the hidden command is not offered')
})

t.test('names come from the agent', async t => {
  const { agent, env } = await served(t)
  agent.caller.raise()
  await vx('network create blue --subnet 10.2.0.0/24'.split(' '), { env })
  await vx('endpoint attach --network red --container-id web --pid 1'.split(' '), { env })
  await vx('namespace map shop red'.split(' '), { env })
  await vx('service create api --network red --port 80 --select app'.split(' '), { env })
  for (const [words, names] of [
    [
      ['network', 'show', ''],
      ['blue', 'red']
    ],
    [['network', 'delete', 'r'], ['red']],
    [
      ['endpoint', 'attach', '--network', ''],
      ['blue', 'red']
    ],
    [['endpoint', 'list', '--network', 'b'], ['blue']],
    [['endpoint', 'show', ''], ['web']],
    [['endpoint', 'detach', '--container-id', 'w'], ['web']],
    [
      ['host', 'show', ''],
      ['h1', 'h2']
    ],
    [['raft', 'remove', 'h2'], ['h2']],
    [
      ['namespace', 'map', 'shop', ''],
      ['blue', 'red']
    ],
    [['namespace', 'unmap', ''], ['shop']],
    [['service', 'show', 'a'], ['api']],
    [['service', 'delete', 'api', '--network', 'r'], ['red']],
    [['service', 'create', ''], []],
    [['network', 'create', ''], []]
  ] as const) {
    t.same(wordsOf((await ask(words, env)).out), names, words.join(' '))
  }
  const socket = env['VXMESH_SOCKET'] ?? ''
  t.same(wordsOf((await ask(['--socket', socket, 'network', 'show', ''])).out), ['blue', 'red'])
  t.same(wordsOf((await ask([`--socket=${socket}`, 'network', 'show', ''])).out), ['blue', 'red'])
})

t.test('completion does not wait for a hanging agent', async t => {
  const path = join(scratch(t), 'mute.sock')
  const mute = createServer(() => undefined).listen(path)
  await once(mute, 'listening')
  t.teardown(() => mute.close())
  t.same(await ask(['network', 'show', ''], { VXMESH_SOCKET: path }), { code: 0, out: '', err: '' })
})

t.test('each supported shell has a script; others are refused', async t => {
  for (const shell of ['bash', 'zsh', 'fish']) {
    const { code, out } = await vx(['completion', shell])
    t.same([code, out.includes(' complete -- ')], [0, true], shell)
  }
  t.match(await vx(['completion', 'tcsh']), { code: 2, err: /Allowed choices are bash, zsh, fish/ })
  t.match(await vx(['completion']), { code: 2, err: /missing required argument 'shell'/ })
})

t.test('bash completes with the script', async t => {
  const { env } = await served(t)
  const { out: script } = await vx(['completion', 'bash'])
  for (const [line, offered] of [
    ['netw', 'network'],
    ['network show ', 'red'],
    ['status --output = j', 'json'],
    ['snapshot save ', '']
  ] as const) {
    const words = [VXMESH, ...line.split(' ')]
    const body = `${script}\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _vxmesh; printf '%s\\n' "\${COMPREPLY[@]}"`
    const { stdout } = await run('bash', ['-c', body, 'bash', ...words], { env: { ...process.env, ...env } })
    t.equal(stdout.trim(), offered, line)
  }
})
