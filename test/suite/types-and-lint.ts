// Types and lint over one program: what the compiler has found out about types, the lint rules ask again. Alone, each parses
// and checks everything (`npm run types`, `npm run lint`). The last line counts both.

import { ESLint } from 'eslint'
import ts from 'typescript'
import { root } from './execute.ts'

const program = readProgram()
const types = ts.getPreEmitDiagnostics(program)
if (types.length > 0) console.log(ts.formatDiagnostics(types, ts.createCompilerHost(program.getCompilerOptions())))
const lint = await lintAll()
const results = { types: types.length === 0, lint }
for (const [name, ok] of Object.entries(results)) console.log(`${ok ? 'ok' : 'not ok'} - ${name}`)
const failed = Object.values(results).filter(ok => !ok).length
console.log(`${Object.keys(results).length - failed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1

function readProgram(): ts.Program {
  const host: ts.ParseConfigFileHost = {
    ...ts.sys,
    onUnRecoverableConfigFileDiagnostic: ({ messageText }) => {
      throw new Error(ts.flattenDiagnosticMessageText(messageText, '\n'))
    }
  }
  const config = ts.getParsedCommandLineOfConfigFile(`${root}/tsconfig.json`, {}, host)
  if (config === undefined) throw new Error('no tsconfig.json')
  const { fileNames: rootNames, options, errors: configFileParsingDiagnostics } = config
  return ts.createProgram({ rootNames, options, configFileParsingDiagnostics })
}

/** @returns whether there is neither an error nor a warning */
async function lintAll(): Promise<boolean> {
  const eslint = new ESLint({
    cwd: root,
    overrideConfig: {
      files: ['**/*.ts'],
      languageOptions: { parserOptions: { projectService: false, programs: [program] } }
    }
  })
  const found = await eslint.lintFiles(['.'])
  const formatter = await eslint.loadFormatter()
  console.log(await formatter.format(found))
  return found.every(({ errorCount, warningCount }) => errorCount + warningCount === 0)
}
