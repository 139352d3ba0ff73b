import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { resolve } from 'node:path'
import t from 'tap'
import { served } from './vx.ts'

const VXMESH = resolve(import.meta.dirname, '../../bin/vxmesh')

type Ended = { readonly code: number | null; readonly out: string; readonly err: string }

async function run(file: string, argv: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ended> {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('VXMESH_'))
  const child = spawn(file, argv, {
    env: { ...Object.fromEntries(inherited), ...env },
    stdio: ['ignore', 'pipe', 'pipe']
  })
  const ended = once(child, 'close') as Promise<[number | null]>
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)])
  return { code: (await ended)[0], out, err }
}

t.test('the program exits with the right codes, data on stdout and messages on stderr', async t => {
  const { env } = await served(t)
  for (const [argv, code, out, err, more] of [
    [['version'], 0, /^vxmesh \d+\.\d+\.\d+\n$/, /^$/, {}],
    [['keygen'], 0, /^\S{44}\n$/, /^$/, {}],
    [['--help'], 0, /^Usage: vxmesh/, /^$/, {}],
    [[], 2, /^$/, /^Usage: vxmesh/, {}],
    [['bogus'], 2, /^$/, /^vxmesh: unknown command 'bogus' \[ERR_USAGE\]\n$/, {}],
    [['agent'], 2, /^$/, /^vxmesh: bind: is required \[ERR_CONFIG\]\n$/, {}],
    [['agent', '--bind', '192.0.2.1'], 2, /^$/, /VXMESH_ROL: no setting/, { VXMESH_ROL: 'server' }],
    [['status', '--socket', '/nonexistent.sock'], 3, /^$/, /ERR_AGENT_UNREACHABLE/, {}],
    [['status', '-o', 'json'], 0, /^\{\n {2}"host": "h1",/, /^$/, env],
    [['network', 'show', 'nope'], 4, /^$/, /ERR_NETWORK_NOT_FOUND/, env],
    [['network', 'create', 'red', '--subnet', '10.1.0.0/24'], 5, /^$/, /ERR_NETWORK_EXISTS/, env]
  ] as const) {
    const ended = await run(VXMESH, argv, more)
    t.equal(ended.code, code, argv.join(' '))
    t.match(ended.out, out, argv.join(' '))
    t.match(ended.err, err, argv.join(' '))
  }
})

t.test('output to a pipe has no colours, whatever TERM says', async t => {
  for (const env of [{ FORCE_COLOR: '3' }, { NO_COLOR: '1' }, { TERM: 'xterm-256color', COLORTERM: 'truecolor' }]) {
    const { out } = await run(VXMESH, ['network', '--help'], env)
    t.notOk(out.includes('\u001b'), JSON.stringify(env))
  }
})

t.test('a reader that stops reading does not make the command fail', async t => {
  const { env } = await served(t)
  for (const argv of ['members -o json', 'events']) {
    const script = `"$0" ${argv} | true; echo "\${PIPESTATUS[0]}"`
    const { out, err } = await run('bash', ['-c', script, VXMESH], env)
    t.same([out, err], ['0\n', ''], argv)
  }
})

t.test('an unsupported Node version is refused with advice', async t => {
  const { code, err } = await run(VXMESH, ['version'], { VXMESH_NODE: '/bin/false' })
  t.equal(code, 1)
  t.match(err, /VXMESH_NODE=\/bin\/false is not Node 24 or newer/)
})
