import { spawnSync } from 'node:child_process'
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join, normalize, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { limits, measureFolder } from '../structure.mjs'

// Doors of the dependencies, direction of imports and the platform's globals are lint rules
// (biome.json). Here is what a linter cannot say, and whether those rules bite.

const sourcesIn = (folder: string) =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => join(folder, file))
    .map((file) => ({ file, text: readFileSync(file, 'utf8') }))

const page = sourcesIn('src')
const worker = sourcesIn('sw')
const sources = [...page, ...worker]

interface Import {
  from: string
  typeOnly: boolean
}

const importsOf = (text: string): Import[] =>
  [...text.matchAll(/^(?:import|export)\b(?:([^'"]*?)\bfrom)?\s*['"]([^'"]+)['"]/gm)].map(
    ([, clause, from]) => ({
      from: from!,
      typeOnly: /^\s*type\b/.test(clause ?? ''),
    }),
  )

/** The steps of the flow, in its order. */
const steps = [
  'intercept',
  'api-request',
  'access-token',
  'renewal',
  'refresh',
  'silent-login',
  'login',
  'callback',
  'logout',
]

/** The rooms of the worker, from top to bottom; files beside them are above or below all. */
const rooms = [
  'options',
  'request',
  'token',
  'sign-in',
  'server',
  'session',
  'offline',
  'http',
  'values',
]
const belowRooms = ['platform', 'time-limit', 'single-flight', 'trace']

const targetOf = (file: string, from: string): string =>
  normalize(join(dirname(file), from)).replace(/\.js$/, '.ts')

describe('the sources', () => {
  test('are named by what they do', () => {
    const vague = /^(?:utils?|helpers?|types|constants|common|misc)\.ts$/
    expect(sources.map(({ file }) => file).filter((file) => vague.test(basename(file)))).toEqual([])
  })

  test('of the worker read no address: its query is for anybody to write (CF-01)', () => {
    const reading = /\b(?:self|globalThis)\.location\b|\blocation\.(?:search|hash|href)\b/
    expect(worker.filter(({ text }) => reading.test(text)).map(({ file }) => file)).toEqual([])
  })

  test('of page and worker meet in src/shared only, which imports nothing', () => {
    const wrong = sources.flatMap(({ file, text }) => {
      const shared = join('src', 'shared')
      const allowed = file.startsWith(shared) ? [shared] : [file.split(/[\\/]/)[0]!, shared]
      return importsOf(text)
        .map(({ from }) => from)
        .filter((from) =>
          from.startsWith('.')
            ? !allowed.some((folder) => normalize(join(dirname(file), from)).startsWith(folder))
            : file.startsWith(shared),
        )
        .map((from) => `${file} imports ${from}`)
    })
    expect(wrong).toEqual([])
  })

  test('import nothing beyond the dependencies of package.json', () => {
    const { dependencies, peerDependencies } = JSON.parse(readFileSync('package.json', 'utf8'))
    const packages = sources.flatMap(({ text }) =>
      importsOf(text)
        .map(({ from }) => from)
        .filter((from) => !from.startsWith('.')),
    )
    const named = Object.keys({ ...dependencies, ...peerDependencies })
    expect([...new Set(packages)].sort()).toEqual(named.sort())
  })

  test('import one another in no circle, types included', () => {
    const imports = new Map(
      sources.map(({ file, text }) => [
        file,
        importsOf(text)
          .filter(({ from }) => from.startsWith('.'))
          .map(({ from }) => targetOf(file, from)),
      ]),
    )
    const done = new Set<string>()
    const circleFrom = (file: string, path: readonly string[]): string | undefined => {
      if (path.includes(file)) return [...path.slice(path.indexOf(file)), file].join(' > ')
      if (done.has(file)) return undefined
      for (const next of imports.get(file) ?? []) {
        const circle = circleFrom(next, [...path, file])
        if (circle) return circle
      }
      done.add(file)
      return undefined
    }
    expect(sources.map(({ file }) => circleFrom(file, [])).filter(Boolean)).toEqual([])
  })

  test('of the worker import downwards only, from room to room', () => {
    const levelOf = (file: string): number => {
      const [, room = '', name] = file.split(/[\\/]/)
      if (name !== undefined) return rooms.indexOf(room)
      return belowRooms.includes(basename(room, '.ts')) ? rooms.length : -1
    }
    const wrong = worker.flatMap(({ file, text }) =>
      importsOf(text)
        .map(({ from }) => targetOf(file, from))
        .filter((target) => target.startsWith('sw') && levelOf(target) < levelOf(file))
        .map((target) => `${file} imports ${target}`),
    )
    expect(wrong).toEqual([])
    const found = new Set(worker.map(({ file }) => file.split(/[\\/]/).slice(1, -1).join('/')))
    expect([...found].filter(Boolean).toSorted()).toEqual(rooms.toSorted())
  })

  test('are short enough to read: files, functions, lists of parameters', () => {
    const files = ['src', 'sw'].flatMap(measureFolder)
    expect(files).toHaveLength(sources.length)
    const long = files.flatMap(({ file, lines, functions }) => [
      ...(lines > limits.fileLines ? [`${file}: ${lines} lines`] : []),
      ...functions
        .filter((each) => each.lines > limits.functionLines || each.parameters > limits.parameters)
        .map((each) => `${file}: ${each.name}: ${each.lines} lines, ${each.parameters} parameters`),
    ])
    expect(long).toEqual([])
  })

  test('keep no variable at module level, because the browser stops a worker at will', () => {
    const variables = sources.flatMap(({ file, text }) =>
      [...text.matchAll(/^(?:export )?(?:let|var) .*/gm)].map(([line]) => `${file}: ${line}`),
    )
    expect(variables).toEqual([])
  })

  test('have entry files that are tables of contents', () => {
    for (const entry of ['src/index.ts', 'sw/index.ts', 'sw/workbox.ts']) {
      const rest = readFileSync(entry, 'utf8')
        .replaceAll(/\/\*[\s\S]*?\*\//g, '')
        .replaceAll(/\/\/.*/g, '')
        .replaceAll(/export (?:type )?\{[^}]*\} from '[^']+'/g, '')
      expect(rest.trim(), entry).toBe('')
    }
  })
})

describe('the steps of the flow', () => {
  const flow = worker.filter(({ file }) => steps.includes(basename(file, '.ts')))

  test('do not import one another: assemble.ts hands them to each other', () => {
    const wrong = flow.flatMap(({ file, text }) =>
      importsOf(text)
        .filter(({ from, typeOnly }) => !typeOnly && steps.includes(basename(from, '.js')))
        .map(({ from }) => `${file} imports ${from}`),
    )
    expect(wrong).toEqual([])
  })

  test('come together in assemble.ts', () => {
    const wiring = worker.find(({ file }) => file === join('sw', 'assemble.ts'))
    const imported = importsOf(wiring?.text ?? '').map(({ from }) => basename(from, '.js'))
    const missing = flow
      .map(({ file }) => basename(file, '.ts'))
      .filter((step) => !imported.includes(step))
    expect(missing).toEqual([])
  })
})

describe('the lint rules', () => {
  const imports = (...from: string[]) => from.map((name) => `import '${name}'`).join('\n')
  const platform = `export const x = () => [
    Date.now(), setTimeout, setInterval, clients, self.clients,
    Math.random(), AbortSignal.timeout(1), navigator.locks,
  ]`

  /** Lints these files, and counts what is forbidden in each. */
  const lint = (files: Record<string, string>) => {
    const folder = mkdtempSync(join(tmpdir(), 'tokenward-'))
    try {
      cpSync('biome.json', join(folder, 'biome.json'))
      for (const [file, text] of Object.entries(files)) {
        mkdirSync(join(folder, dirname(file)), { recursive: true })
        writeFileSync(join(folder, file), `${text}\n`)
      }
      const biome = resolve('node_modules/@biomejs/biome/bin/biome')
      const args = [biome, 'lint', '--reporter=github', '--max-diagnostics=none']
      const { stdout } = spawnSync(process.execPath, args, {
        cwd: folder,
        encoding: 'utf8',
      })
      const found = [...stdout.matchAll(/title=lint\/\w+\/no(?:Js)?Restricted\w+,file=([^,]+),/g)]
      return Object.fromEntries(
        Object.keys(files).map((name) => [
          name,
          found.filter(([, file]) => file!.replaceAll('\\', '/').endsWith(`/${name}`)).length,
        ]),
      )
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  }

  test('give each dependency one door, and keep page and worker apart', () => {
    const dependencies = [
      'comlink',
      'idb',
      'oauth4webapi',
      'workbox-background-sync',
      'workbox-window',
    ]
    const everything = imports(...dependencies, '../src/token-manager.js', '../../sw/login.js')
    expect(
      lint({
        'src/token-manager.ts': everything,
        'src/register.ts': everything,
        'src/worker-bridge.ts': everything,
        'src/shared/errors.ts': imports(...dependencies, '../register.js', './protocol.js'),
        'sw/token-worker.ts': everything,
        'sw/page-bridge.ts': everything,
        'sw/session/database.ts': everything,
        'sw/server/authorization-server.ts': everything,
        'sw/offline/queue-entries.ts': everything,
        'sw/sign-in/login.ts': imports(
          '../../src/shared/errors.js',
          '../session/store.js',
          '../platform.js',
          './transactions.js',
        ),
      }),
    ).toEqual({
      'src/token-manager.ts': 7,
      'src/register.ts': 6,
      'src/worker-bridge.ts': 6,
      'src/shared/errors.ts': 6,
      'sw/token-worker.ts': 7,
      'sw/page-bridge.ts': 6,
      'sw/session/database.ts': 6,
      'sw/server/authorization-server.ts': 6,
      'sw/offline/queue-entries.ts': 6,
      'sw/sign-in/login.ts': 0,
    })
  })

  test('let the worker meet the outside world in sw/platform.ts alone', () => {
    expect(lint({ 'sw/token/refresh.ts': platform, 'sw/platform.ts': platform })).toEqual({
      'sw/token/refresh.ts': 8,
      'sw/platform.ts': 0,
    })
  })
})
