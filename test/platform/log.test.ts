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
  child.debug('louder')
  child.child({}).trace('never')`

/** The lines on a stderr that JOURNAL_STREAM names, or names wrongly. */
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

t.test('into the journal each line has the priority of its level, and JSON after it', t => {
  const lines = written(t, ({ dev, ino }) => `${dev}:${ino}`)
  t.same(
    lines.map(line => [line.slice(0, 3), (JSON.parse(line.slice(3)) as { msg: string }).msg]),
    [
      ['<6>', 'info'],
      ['<4>', 'warn'],
      ['<3>', 'error'],
      ['<2>', 'fatal'],
      ['<7>', 'louder']
    ]
  )
  t.end()
})

t.test('elsewhere lines are JSON alone, also when the journal was ours before', t => {
  for (const other of ['', '1:1', 'nonsense']) {
    const lines = written(t, () => other)
    t.same(
      lines.map(line => (JSON.parse(line) as { msg: string }).msg),
      ['info', 'warn', 'error', 'fatal', 'louder'],
      other
    )
  }
  t.end()
})
