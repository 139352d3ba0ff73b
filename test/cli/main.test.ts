// The program itself, in this process; test/cli/process.test.ts runs it as its users do.

import t from 'tap'

t.test('the program runs its command line and sets the exit code', async t => {
  const argv = t.intercept(process, 'argv', { value: ['node', 'vxmesh', 'bogus'] })
  const stderr = t.capture(process.stderr, 'write', () => true)
  await import('../../src/main.ts')
  argv.restore()
  const written = stderr().map(({ args }) => String(args[0]))
  const { exitCode } = process
  process.exitCode = 0
  t.equal(exitCode, 2)
  t.match(written.join(''), /unknown command 'bogus' \[ERR_USAGE\]/)
})
