// The benchmarks' command line: npm run -s bench -- NAME [flags]. Progress goes to standard error; the last line of standard
// output is one JSON object: ours, peer or limit, ratio (contract 6.8).

import { readdirSync } from 'node:fs'
import { ratios, rounded, say, type Benchmark, type Figures } from './report.ts'

/** Files of this folder that are not benchmarks. */
const PARTS = new Set(['main', 'report'])

const [name = '', ...args] = process.argv.slice(2)
const names = readdirSync(import.meta.dirname)
  .filter(file => file.endsWith('.ts'))
  .map(file => file.slice(0, -'.ts'.length))
  .filter(file => !PARTS.has(file))
if (!names.includes(name)) {
  say(`bench: ${name === '' ? 'name one' : `there is no ${name}`}; there are ${names.join(', ')}`)
  process.exit(2)
}
const { bench } = (await import(`./${name}.ts`)) as { bench: Benchmark }
const report = await bench(args)
const { ours, peer, limit, facts } = report
console.log(
  JSON.stringify({
    bench: name,
    ours: tidy(ours),
    ...(peer === undefined ? {} : { peer: tidy(peer) }),
    ...(limit === undefined ? {} : { limit: tidy(limit) }),
    ratio: ratios(report),
    ...facts
  })
)

function tidy(figures: Figures): Figures {
  return Object.fromEntries(Object.entries(figures).map(([key, value]) => [key, rounded(value)]))
}
