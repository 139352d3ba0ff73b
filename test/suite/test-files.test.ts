import { join, relative } from 'node:path'
import t, { type Test } from 'tap'
import { execute, root } from './execute.ts'
import { readTap, type Outcome } from './outcome.ts'
import { runTestFiles } from './test-files.ts'

const TAP = `import t from ${JSON.stringify(import.meta.resolve('tap'))}\n`

async function run(t: Test, files: Readonly<Record<string, string>>, boundSeconds = 60): Promise<Outcome> {
  const directory = t.testdir(files)
  const paths = Object.keys(files).map(name => relative(root, join(directory, name)))
  return readTap(await runTestFiles(execute, paths, { jobs: 2, boundSeconds }))
}

t.test('the tests of several files are counted, in the order of the files', async t => {
  const slow = `${TAP}t.test('slow', async t => { await new Promise(done => setTimeout(done, 200)); t.ok(true) })`
  const fast = `${TAP}t.test('one', async t => t.ok(true))\nt.test('two', async t => t.ok(true))`
  const { passed, failed, output } = await run(t, { 'a.mjs': slow, 'b.mjs': fast })
  t.strictSame({ passed, failed }, { passed: 3, failed: 0 })
  t.match(output, /^ok 1 - \S*a\.mjs .*\nok 2 - \S*b\.mjs /)
})

for (const [title, source, passed, shown] of [
  ['a failed test', `${TAP}t.test('good', async t => t.ok(true))\nt.test('bad', async t => t.ok(false))`, 1, /bad/],
  [
    'an error after the tests',
    `${TAP}t.test('good', async t => t.ok(true))\nsetTimeout(() => { throw new Error('late') })`,
    1,
    /late/
  ],
  ['a syntax error', 'const', 0, /exitCode: 1/],
  ['a signal', `process.kill(process.pid, 'SIGKILL')`, 0, /exitCode: 1/],
  [
    'an early exit with status 0',
    `${TAP}t.test('good', async t => { console.log('TAP'); process.reallyExit(0) })`,
    0,
    /complete: false/
  ],
  ['no test at all', '', 0, /complete: false/]
] as const) {
  t.test(`a file with ${title} has failed`, async t => {
    const outcome = await run(t, { 'good.mjs': `${TAP}t.test('other', async t => t.ok(true))`, 'bad.mjs': source })
    t.strictSame({ passed: outcome.passed, failed: outcome.failed }, { passed: passed + 1, failed: 1 })
    t.match(outcome.output, shown)
  })
}

t.test('a test that hangs is named once the bound of its file is over', async t => {
  const source = `${TAP}t.test('hangs', async () => new Promise(() => setInterval(() => {}, 1_000)))`
  const { failed, output } = await run(t, { 'hangs.mjs': source }, 3)
  t.equal(failed, 1)
  t.match(output, /not ok 1 - hangs/)
})

t.test('a program that does not end is killed at its bound, and its output so far is returned', async t => {
  const { code, output } = await execute('sh', ['-c', 'echo said; sleep 60 & wait'], { boundSeconds: 1 })
  t.strictSame({ code, output }, { code: 1, output: 'said\n' })
})
