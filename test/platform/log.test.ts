import { spawnSync } from 'node:child_process'
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'

const LIBRARY = new URL('../../src/platform/log.ts', import.meta.url).href
const PROGRAM = `
  import { createLogger, setLogLevel } from '${LIBRARY}'
  const log = createLogger('info')
  const child = log.child({ room: 'x' })
  for (const level of ['debug', 'info', 'warn', 'error', 'fatal']) child[level](level)
  setLogLevel(log, 'debug')
  child.debug('now enabled')
  child.child({}).trace('still disabled')`

/** The lines that the program writes to stderr, with JOURNAL_STREAM as `journal` makes it from the file. */
function written(t: Test, journal: (file: { dev: bigint; ino: bigint }) => string): string[] {
  const path = join(t.testdir(), 'stderr')
  const fd = openSync(path, 'w')
  const env = { PATH: process.env['PATH'], JOURNAL_STREAM: journal(fstatSync(fd, { bigint: true })) }
  const { status } = spawnSync(process.execPath, ['--input-type=module', '-e', PROGRAM], {
    stdio: ['ignore', 'ignore', fd],
    env
  })
  closeSync(fd)
  t.equal(status, 0)
  return readFileSync(path, 'utf8').trim().split('\n')
}

t.test('a line for the journal is the priority of its level and JSON', t => {
  const lines = written(t, ({ dev, ino }) => `${dev}:${ino}`)
  t.same(
    lines.map(line => [line.slice(0, 3), (JSON.parse(line.slice(3)) as { msg: string }).msg]),
    [
      ['<6>', 'info'],
      ['<4>', 'warn'],
      ['<3>', 'error'],
      ['<2>', 'fatal'],
      ['<7>', 'now enabled']
    ]
  )
  t.end()
})

t.test('without the journal, or with another one, a line is JSON alone', t => {
  for (const other of ['', '1:1', 'nonsense']) {
    const lines = written(t, () => other)
    t.same(
      lines.map(line => (JSON.parse(line) as { msg: string }).msg),
      ['info', 'warn', 'error', 'fatal', 'now enabled'],
      other
    )
  }
  t.end()
})
