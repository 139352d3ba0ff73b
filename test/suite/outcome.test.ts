import t from 'tap'
import { readCounts, readTap, sum, verdict } from './outcome.ts'

const TAP = `TAP version 14
# Subtest: test/a.test.ts
    # Subtest: first
        ok 1 - inner
        1..1
    ok 1 - first # time=1ms
    not ok 2 - second # time=1ms
      ---
      diff: why
      ...
    1..2
not ok 1 - test/a.test.ts
ok 2 - test/b.test.ts
1..2
`

t.test('TAP counts the tests of each file and shows failures with their details', t => {
  const { passed, failed, output } = readTap({ code: 1, output: TAP })
  t.strictSame({ passed, failed }, { passed: 1, failed: 1 })
  t.match(output, /^not ok 1 - test\/a\.test\.ts$/m)
  t.match(output, 'diff: why')
  t.notMatch(output, 'inner')
  t.end()
})

t.test('a run that ends badly has failed, whatever it printed', t => {
  const good = '    ok 1 - first\nok 1 - test/a.test.ts\n'
  for (const [read, output, code, passed, failed] of [
    [readTap, good, 0, 1, 0],
    [readTap, good, 1, 1, 1],
    [readTap, '', 1, 0, 1],
    [readCounts, 'ok\n3 passed, 0 failed\n', 0, 3, 0],
    [readCounts, '3 passed, 2 failed\n', 1, 3, 2],
    [readCounts, '3 passed, 0 failed\n', 1, 3, 1],
    [readCounts, 'no counts', 0, 1, 0],
    [readCounts, 'no counts', 1, 0, 1]
  ] as const) {
    const outcome = read({ code, output })
    t.match(outcome, { passed, failed }, `${output.trim()}, exit ${code}`)
  }
  t.end()
})

t.test('outcomes add up', t => {
  t.strictSame(sum([verdict(true, 'a'), verdict(false, 'b')]), { passed: 1, failed: 1, output: 'ab' })
  t.end()
})
