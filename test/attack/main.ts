// The attack suite: everything that broke once, and every kind of frame, against real agents. Prints a line for each attack
// with its control and its figure, and the counts in the last line.
//   main.ts [TEXT...]  only attacks whose name has one of the texts
//   LAB_UNDERLAY=ipv6  the hosts' own network is IPv6

import { BELIEVED } from './believed.ts'
import { DOORS } from './doors.ts'
import { UNDERLAY_FAMILY } from '../lab/family.ts'
import { cannotRun } from '../lab/requirements.ts'
import { kindsOf } from './kinds.ts'
import { kinds6Of } from './kinds6.ts'
import { MEMBERS } from './members.ts'
import { failedLine, formatTable, lineOf, type Line, type Row } from './row.ts'
import { SCAPY } from './scapy.ts'
import { STRANGERS } from './strangers.ts'
import { PATHS, TENANTS, TENANTS6 } from './tenants.ts'
import { World } from './world.ts'
import { end } from '../suite/end.ts'

const noRoot = cannotRun()
if (noRoot !== false) {
  console.log(`attack: skipped: ${noRoot}`)
  process.exit(0)
}
const chosen = process.argv.slice(2)
const lines: Line[] = []
const world = await World.open({ ipv6: true })
try {
  const [kinds, kinds6] = [await kindsOf(world), await kinds6Of(world)]
  const paths = UNDERLAY_FAMILY === 'ipv4' ? PATHS : []
  const tenants = [...paths, ...TENANTS, ...TENANTS6]
  const rows = [...STRANGERS, ...kinds.rows, ...kinds6.rows, SCAPY, ...BELIEVED, ...tenants, ...DOORS, ...MEMBERS]
  const wanted = rows.filter(({ name }) => chosen.length === 0 || chosen.some(text => name.includes(text)))
  for (const row of wanted) lines.push(await attempt(row))
  for (const { close } of [kinds, kinds6]) close()
} finally {
  await world.close()
}
console.log(`\n${formatTable(lines)}`)
end(lines.length > 0 && lines.every(({ verdict }) => verdict === 'held') ? 0 : 1)

async function attempt({ name, run }: Row<World>): Promise<Line> {
  const since = performance.now()
  const line = await run(world).then(
    outcome => lineOf(name, outcome),
    (err: unknown) => failedLine(name, err)
  )
  const seconds = ((performance.now() - since) / 1_000).toFixed(1)
  console.log(`${line.verdict.padEnd(10)} ${name} (${seconds} s): ${line.figure}; control: ${line.control}`)
  return line
}
