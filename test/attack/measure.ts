// Figures of the attacks, before and after: the same floods and races as the suite's, without a verdict. Prints one line for
// each, and all of them as JSON in the last line.
//   measure.ts [--at DIR] [TEXT...]  agents of another checkout; only figures whose name has one of the texts

import { cannotRun } from '../lab/requirements.ts'

const args = process.argv.slice(2)
const at = args.indexOf('--at')
const [, checkout] = at === -1 ? [] : args.splice(at, 2)
// The lab reads it when it is loaded.
if (checkout !== undefined) process.env['LAB_CHECKOUT'] = checkout
const noRoot = cannotRun()
if (noRoot !== false) {
  console.log(`measure: skipped: ${noRoot}`)
  process.exit(0)
}
const { FIGURES } = await import('./figures.ts')
const { World } = await import('./world.ts')

const wanted = Object.entries(FIGURES).filter(([name]) => args.length === 0 || args.some(text => name.includes(text)))
const all: Record<string, unknown> = {}
let world = await World.open()
for (const [name, measure] of wanted) {
  try {
    all[name] = await measure(world)
  } catch (err) {
    const [first] = (err instanceof Error ? err.message : String(err)).split('\n')
    all[name] = { failed: first }
    await world.close()
    world = await World.open()
  }
  console.log(`${name}: ${JSON.stringify(all[name])}`)
}
await world.close()
console.log(JSON.stringify(all))
process.exit(0)
