// Builds dist/: `npm run build`, or `build({ quiet: true })` from the demo and the tests.
import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import * as esbuild from 'esbuild'
import { minify } from 'terser'
import ts from 'typescript'

const root = dirname(fileURLToPath(import.meta.url))
const path = (...parts) => join(root, ...parts)
const readJson = (...parts) => JSON.parse(readFileSync(path(...parts), 'utf8'))

const { name, version, license, dependencies, peerDependencies } = readJson('package.json')

/** The argument with the words of an error, by the name of the function or class that gets it. */
const wordsArgument = {
  TokenError: 1,
  asTokenError: 2,
  must: 2,
  invalidAnswer: 0,
  invalidCallback: 0,
  invalidIdToken: 0,
}

/** The values in a message, as source text, without the words around them. */
const valuesIn = (node, source) => {
  if (ts.isStringLiteralLike(node)) return []
  if (ts.isParenthesizedExpression(node)) return valuesIn(node.expression, source)
  if (ts.isTemplateExpression(node)) {
    return node.templateSpans.flatMap(({ expression }) => valuesIn(expression, source))
  }
  if (ts.isBinaryExpression(node) && node.operatorToken.kind === ts.SyntaxKind.PlusToken) {
    return [...valuesIn(node.left, source), ...valuesIn(node.right, source)]
  }
  if (ts.isConditionalExpression(node)) {
    const [yes, no] = [node.whenTrue, node.whenFalse].map((each) => messageOf(each, source))
    return [`(${node.condition.getText(source)} ? ${yes} : ${no})`]
  }
  return [node.getText(source)]
}

const messageOf = (node, source) => {
  const values = valuesIn(node, source)
  return values.length > 0 ? `\`${values.map((value) => `\${${value}}`).join(' ')}\`` : "''"
}

/**
 * Takes the words out of the errors in a TypeScript source: the values in them stay. Lines keep
 * their numbers.
 */
export const dropWords = (text, file = 'source.ts') => {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.ES2022)
  const changes = []
  const visit = (node) => {
    if (ts.isCallExpression(node) || ts.isNewExpression(node)) {
      const words = node.arguments?.[wordsArgument[node.expression.getText(source)]]
      if (words) {
        const [start, end] = [words.getStart(source), words.getEnd()]
        const lines = text.slice(start, end).replaceAll(/[^\n]/g, '')
        changes.push({ start, end, to: messageOf(words, source) + lines })
        return
      }
    }
    ts.forEachChild(node, visit)
  }
  visit(source)
  return changes.reduceRight(
    (result, { start, end, to }) => result.slice(0, start) + to + result.slice(end),
    text,
  )
}

const codesInsteadOfWords = {
  name: 'codes instead of words',
  setup: ({ onLoad }) =>
    onLoad({ filter: /[\\/](src|sw)[\\/].*\.ts$/ }, ({ path: file }) => ({
      contents: dropWords(readFileSync(file, 'utf8'), file),
      loader: 'ts',
    })),
}

/** What every bundle has in common: the development build explains its errors. */
export const commonDevelopment = {
  absWorkingDir: root,
  bundle: true,
  charset: 'utf8',
  format: 'esm',
  // The browsers of the last two years.
  target: ['chrome120', 'firefox121', 'safari17'],
  define: { DEVELOPMENT: 'true' },
  // workbox-window's `main` is a UMD file whose names Node cannot import, and its `module` is ES5
  // of twice the size. The file that both Node and browsers can use has to be named.
  alias: { 'workbox-window': 'workbox-window/build/workbox-window.prod.mjs' },
  // How Workbox notes its version, for nobody here: `self['workbox:window:7.4.0'] && _()`.
  pure: ['_'],
  logLevel: 'warning',
}

/** The production build says codes, names and values, and where to read on. */
export const common = {
  ...commonDevelopment,
  define: { DEVELOPMENT: 'false' },
  plugins: [codesInsteadOfWords],
}

const banner = (kind, ...included) => {
  const parts = included.map((dependency) => {
    const { version, license } = readJson('node_modules', dependency, 'package.json')
    return `${dependency} ${version} (${license})`
  })
  const all = parts.length > 0 ? ` | includes ${parts.join(', ')}: THIRD-PARTY-LICENSES.txt` : ''
  return { js: `/*! ${name} ${version}${kind} | ${license}${all} */` }
}

/** Minifies once more: terser finds about 5 % that esbuild leaves. */
export const squeeze = (code, options = {}) =>
  minify(code, {
    ecma: 2020,
    compress: {
      // `typeof a === 'b'` is more often the same text as elsewhere than `'b' === typeof a`.
      lhs_constants: false,
      passes: 3,
      pure_getters: true,
      // `Error()` for `new Error()` and `'' + a` for `String(a)`; and symbols need no names.
      unsafe: true,
      unsafe_arrows: true,
      unsafe_symbols: true,
    },
    format: { comments: /^!/ },
    ...options,
  })

const squeezeFile = async ({ outfile, format }) => {
  const map = `${outfile}.map`
  const { code, map: squeezed } = await squeeze(readFileSync(path(outfile), 'utf8'), {
    module: format === 'esm',
    sourceMap: { content: readFileSync(path(map), 'utf8'), url: basename(map) },
  })
  writeFileSync(path(outfile), code)
  writeFileSync(path(map), squeezed)
}

/** The bundles of one build, in this folder. */
const bundlesIn = (folder, options, kind = '') => {
  /** For bundlers: dependencies stay imports. */
  const modules = {
    ...options,
    banner: banner(kind),
    external: Object.keys({ ...dependencies, ...peerDependencies }),
    minifySyntax: true,
    outdir: folder,
    sourcemap: true,
  }
  /** For browsers as it is: everything in one file. */
  const standalone = { ...options, minify: true, sourcemap: true }
  return [
    {
      ...modules,
      entryPoints: { index: 'src/index.ts', testing: 'src/testing.ts' },
      // One `TokenError` in both files, so that `instanceof` holds in tests of an app.
      splitting: true,
      chunkNames: 'page-shared',
    },
    { ...modules, entryPoints: { worker: 'sw/index.ts', workbox: 'sw/workbox.ts' } },
    {
      ...standalone,
      banner: banner(kind, 'comlink', 'workbox-window'),
      entryPoints: ['src/index.ts'],
      outfile: `${folder}/page.standalone.js`,
    },
    {
      ...standalone,
      banner: banner(kind, 'idb', 'oauth4webapi'),
      entryPoints: ['sw/index.ts'],
      format: 'iife',
      globalName: 'tokenward',
      outfile: `${folder}/worker.classic.js`,
    },
  ]
}

const bundles = [
  ...bundlesIn('dist', common),
  ...bundlesIn('dist/development', commonDevelopment, ' development'),
]

const bundled = [
  'index.js',
  'testing.js',
  'worker.js',
  'workbox.js',
  'worker.classic.js',
  'page.standalone.js',
]

const outputs = [
  ...bundled.map((file) => `dist/${file}`),
  ...bundled.map((file) => `dist/development/${file}`),
  'dist/THIRD-PARTY-LICENSES.txt',
]

const declarations = [
  'dist/types/src/index.d.ts',
  'dist/types/src/testing.d.ts',
  'dist/types/sw/index.d.ts',
  'dist/types/sw/workbox.d.ts',
]

const sources = () =>
  ['src', 'sw']
    .flatMap((folder) => readdirSync(path(folder), { recursive: true }).map((f) => join(folder, f)))
    .concat('package.json', 'package-lock.json', 'tsconfig.json', 'esbuild.config.mjs')

/** Runs `make` unless what it made before is there and newer than every source. */
const upToDate = async (what, files, make) => {
  const stamp = path('.cache', `${what}.built`)
  const newest = Math.max(...sources().map((file) => statSync(path(file)).mtimeMs))
  if (
    files.every((file) => existsSync(path(file))) &&
    existsSync(stamp) &&
    statSync(stamp).mtimeMs > newest
  ) {
    return false
  }
  const start = new Date()
  await make()
  mkdirSync(dirname(stamp), { recursive: true })
  writeFileSync(stamp, '')
  // What is saved while we build is newer than the build.
  utimesSync(stamp, start, start)
  return true
}

const makeBundles = async () => {
  for (const file of existsSync(path('dist')) ? readdirSync(path('dist')) : []) {
    if (file !== 'types') rmSync(path('dist', file), { recursive: true })
  }
  await Promise.all(bundles.map((options) => esbuild.build(options)))
  await Promise.all(bundles.filter(({ minify }) => minify).map(squeezeFile))
  const licenses = Object.keys(dependencies).map((dependency) => {
    const folder = path('node_modules', dependency)
    const file = readdirSync(folder).find((entry) => entry.startsWith('LICENSE')) ?? 'LICENSE'
    const text = readFileSync(join(folder, file), 'utf8').trim()
    return `${dependency}\n${'='.repeat(dependency.length)}\n\n${text}\n`
  })
  writeFileSync(path('dist', 'THIRD-PARTY-LICENSES.txt'), licenses.join('\n\n'))
}

const makeTypes = () => {
  // tsc takes its own notes for the files they tell of, and does not notice that those are gone.
  if (declarations.some((file) => !existsSync(path(file)))) {
    rmSync(path('dist', 'types'), { recursive: true, force: true })
  }
  const tsc = path('node_modules', 'typescript', 'bin', 'tsc')
  const { status } = spawnSync(process.execPath, [tsc, '-b', 'src', 'sw'], {
    cwd: root,
    stdio: 'inherit',
  })
  if (status !== 0) throw new Error('The types do not compile (tsc -b src sw).')
}

/**
 * Brings dist/ up to date; does nothing where it is.
 *
 * @param {{ quiet?: boolean, types?: boolean }} [options] `types: false` leaves out the
 * declarations, which only a package needs.
 */
export const build = async ({ quiet = false, types = true } = {}) => {
  const start = performance.now()
  const built = await upToDate('bundles', outputs, makeBundles)
  const typed = types && (await upToDate('types', declarations, makeTypes))
  if (quiet) return
  if (!built && !typed) return console.log('dist/ is up to date')
  for (const file of outputs) {
    const size = (statSync(path(file)).size / 1000).toFixed(1)
    console.log(`${file.padEnd(32)} ${size.padStart(6)} kB`)
  }
  console.log(`built in ${((performance.now() - start) / 1000).toFixed(1)} s`)
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  await build().catch((error) => {
    // esbuild and tsc have said what is wrong by then.
    if (!error.errors) console.error(error.message)
    process.exitCode = 1
  })
}
