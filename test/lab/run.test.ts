// The lab's way to run programs against the product's own.

import t from 'tap'
import { run as runByNode, type RunResult } from '#platform/process.ts'
import { run } from './run.ts'

type Case = readonly [file: string, args: readonly string[], options?: { input?: string; timeoutMs?: number }]

/** Of the signals that are no one's own; the C library has 32 and 33. */
const IGNORED = 'set -- $(grep ^SigIgn /proc/self/status); echo $((0x$2 & 0x7fffffff)); yes | head -1'

const CASES: Readonly<Record<string, Case>> = {
  'standard output': ['echo', ['one', 'two words', 'ü']],
  'standard error and an exit code': ['sh', ['-c', 'echo out; echo err >&2; exit 3']],
  'no output': ['true', []],
  'only the last newline is cut': ['printf', ['a\\n\\n']],
  'a carriage return before it, too': ['printf', ['a\\r\\n']],
  'no newline': ['printf', ['a']],
  'bytes that are no UTF-8': ['printf', ['a\\377b']],
  'no input': ['cat', []],
  'empty input': ['cat', [], { input: '' }],
  input: ['cat', [], { input: 'ü\nsecond line\n' }],
  'much of everything': ['sh', ['-c', 'text=$(cat); echo "$text"; echo "$text" >&2'], { input: 'x'.repeat(3_000_000) }],
  'input that nobody reads': ['true', [], { input: 'x'.repeat(1_000_000) }],
  'the same environment': ['sh', ['-c', 'echo "$PATH"']],
  'the same folder': ['pwd', []],
  'signals as they are for others': ['sh', ['-c', IGNORED]],
  'no descriptor but the standard ones': ['sh', ['-c', 'ls /proc/self/fd']],
  'a program that does not exist': ['no-such-program', []],
  'a file that is no program': ['/etc/passwd', []],
  'a signal': ['sh', ['-c', 'kill -9 $$']],
  'a program that hangs': ['sleep', ['60'], { timeoutMs: 100 }]
}

async function outcome(how: typeof run, [file, args, options]: Case): Promise<RunResult | { readonly code: unknown }> {
  try {
    return await how(file, args, options)
  } catch (err) {
    return { code: (err as { readonly code?: unknown }).code }
  }
}

for (const [title, each] of Object.entries(CASES)) {
  t.test(title, async t => {
    t.strictSame(await outcome(run, each), await outcome(runByNode, each))
  })
}

t.test('programs run side by side, and each gets its own answer', async t => {
  const texts = Array.from({ length: 50 }, (_, n) => `${n}`)
  const slow = run('sh', ['-c', 'sleep 0.5; echo slow'])
  const answers = await Promise.all(texts.map(async text => (await run('echo', [text])).stdout))
  t.strictSame(answers, texts)
  t.equal((await slow).stdout, 'slow')
})

t.test('a change of the environment is seen by the next program', async t => {
  process.env['LAB_RUN_TEST'] = 'changed'
  t.equal((await run('sh', ['-c', 'echo "$LAB_RUN_TEST"'])).stdout, 'changed')
  delete process.env['LAB_RUN_TEST']
  t.equal((await run('sh', ['-c', 'echo "$LAB_RUN_TEST"'])).stdout, '')
})

t.test('neither the helper nor its programs outlive the process', async t => {
  const script = `
    const { run } = await import(${JSON.stringify(import.meta.resolve('./run.ts'))})
    void run('sleep', ['61.25'], { timeoutMs: 60_000 })
    await run('true', [])
    process.exit(0)`
  await run(process.execPath, ['--input-type=module', '-e', script])
  const left = async (): Promise<boolean> =>
    (await run('sh', ['-c', 'ps -eo args | grep -q "^sleep 61[.]25"'])).exitCode === 0
  for (let n = 0; n < 100 && (await left()); n++) await new Promise(resolve => setTimeout(resolve, 50))
  t.notOk(await left())
})

t.test('a process that waits for nothing else ends by itself', async t => {
  const script = `
    const { run } = await import(${JSON.stringify(import.meta.resolve('./run.ts'))})
    await run('true', [])`
  t.equal((await run(process.execPath, ['--input-type=module', '-e', script])).exitCode, 0)
})
