import { fstatSync } from 'node:fs'
import t from 'tap'
import { exitOnClosedPipe, terminalOf, type CliProcess } from '#cli/terminal.ts'

type Fake = CliProcess & {
  readonly written: string[]
  readonly exits: number[]
  readonly fail: (err: NodeJS.ErrnoException) => void
}

function fake(p: { env?: CliProcess['env']; isTTY?: boolean; columns?: number } = {}): Fake {
  const { env = {}, ...terminal } = p
  const written: string[] = []
  const exits: number[] = []
  const listeners: ((err: NodeJS.ErrnoException) => void)[] = []
  return {
    ...{ env, written, exits },
    stdout: {
      ...terminal,
      write: text => written.push(`out ${text}`),
      on: (_event, listener) => listeners.push(listener)
    },
    stderr: { write: text => written.push(`err ${text}`) },
    exit: () => exits.push(1),
    fail: err => {
      for (const listener of listeners) listener(err)
    }
  }
}

t.test('data goes to stdout and messages to stderr, in the journal with their priority', t => {
  const plain = fake()
  terminalOf(plain).out('data')
  terminalOf(plain).err('message')
  t.same(plain.written, ['out data', 'err message'])
  const { dev, ino } = fstatSync(2, { bigint: true })
  const journal = fake({ env: { JOURNAL_STREAM: `${dev}:${ino}` } })
  terminalOf(journal).err('message')
  t.same(journal.written, ['err <3>message'])
  t.end()
})

t.test('colour only on a terminal that shows it, unless NO_COLOR has a value', t => {
  for (const [what, process, color] of [
    ['a terminal', fake({ isTTY: true }), true],
    ['a pipe', fake(), false],
    ['a dumb terminal', fake({ isTTY: true, env: { TERM: 'dumb' } }), false],
    ['NO_COLOR', fake({ isTTY: true, env: { NO_COLOR: '1' } }), false],
    ['an empty NO_COLOR', fake({ isTTY: true, env: { NO_COLOR: '' } }), true]
  ] as const) {
    t.equal(terminalOf(process).color, color, what)
  }
  t.equal(terminalOf(fake({ columns: 80 })).columns, 80)
  t.equal(terminalOf(fake()).columns, undefined)
  t.end()
})

t.test('a reader that closes the pipe ends the program; any other error is thrown', t => {
  const process = fake()
  exitOnClosedPipe(process)
  process.fail(Object.assign(new Error('write'), { code: 'EPIPE' }))
  t.equal(process.exits.length, 1)
  t.throws(() => process.fail(Object.assign(new Error('no space'), { code: 'ENOSPC' })), { code: 'ENOSPC' })
  t.equal(process.exits.length, 1)
  t.end()
})
