import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { runInNewContext } from 'node:vm'
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { build } from '../../esbuild.config.mjs'

const cli = resolve('bin/tokenward.mjs')
const { version } = JSON.parse(readFileSync('package.json', 'utf8'))
const libraries = ['tokenward-worker.development.js', 'tokenward-worker.js']
const pages = ['callback', 'done', 'login', 'logout', 'silent'].map((name) => `${name}.html`)

let site: string

const tokenward = (...args: string[]) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...args], {
    cwd: site,
    encoding: 'utf8',
  })
  return { status, stdout, stderr }
}

const inSite = (...parts: string[]) => readFileSync(join(site, ...parts), 'utf8')

beforeAll(() => build({ quiet: true, types: false }))
beforeEach(() => {
  site = mkdtempSync(join(tmpdir(), 'tokenward-'))
})
afterEach(() => rmSync(site, { recursive: true, force: true }))

describe('tokenward init', () => {
  test('writes the worker library, the inert pages and a worker script, and nothing else', () => {
    const { status, stdout } = tokenward('init', '.')
    expect(status).toBe(0)
    expect(readdirSync(site).sort()).toEqual(['sw.js', 'tokenward', ...libraries])
    expect(readdirSync(join(site, 'tokenward')).sort()).toEqual(pages)
    for (const file of libraries) expect(inSite(file)).toContain(`tokenward ${version}`)
    for (const file of [...libraries, 'tokenward/callback.html']) {
      expect(stdout).toContain(`wrote       ${file}`)
    }
  })

  test('leaves out the reference to a source map that the site does not have', () => {
    tokenward('init', '.')
    for (const file of libraries) expect(inSite(file)).not.toContain('sourceMappingURL')
  })

  test('writes two builds of the library, which their first lines tell apart', () => {
    tokenward('init', '.')
    const [development, production] = libraries.map((file) => inSite(file).split('\n')[0])
    expect(development).toContain('development')
    expect(production).not.toContain('development')
  })

  test.each([
    ['localhost', 'tokenward-worker.development.js'],
    ['127.0.0.1', 'tokenward-worker.development.js'],
    ['app.example.com', 'tokenward-worker.js'],
    ['localhost.example.com', 'tokenward-worker.js'],
  ])('writes a worker script that takes, on %s, %s', (hostname, file) => {
    tokenward('init', '.')
    const [, statement = ''] = /(importScripts\([\s\S]*?\n\))\n/.exec(inSite('sw.js')) ?? []
    const imported: string[] = []
    const importScripts = (name: string) => imported.push(name)
    runInNewContext(statement, { importScripts, location: { hostname } })
    expect(imported).toEqual([file])
  })

  test('says what is left to write, with the real names', () => {
    const { stdout } = tokenward('init', '.', '--client-id', 'shop')
    expect(stdout).toContain('Next, in sw.js: issuer, apis.')
    expect(stdout).toContain("import { createTokenManager } from 'tokenward'")
    expect(stdout).toContain("createTokenManager('/sw.js')")
  })

  test('names the service worker that the site has already, and does not touch it', () => {
    writeFileSync(join(site, 'service-worker.js'), '// mine')
    const { stdout } = tokenward('init', '.')
    expect(stdout).toContain('service-worker.js is there already')
    expect(stdout).toContain('  importScripts(')
    expect(stdout).toContain("createTokenManager('/service-worker.js')")
    expect(inSite('service-worker.js')).toBe('// mine')
    expect(existsSync(join(site, 'sw.js'))).toBe(false)
  })

  test('never overwrites a worker script, with --force neither', () => {
    writeFileSync(join(site, 'sw.js'), '// mine')
    const { status, stdout } = tokenward('init', '.', '--force')
    expect(status).toBe(0)
    expect(stdout).toContain('kept        sw.js (yours)')
    expect(inSite('sw.js')).toBe('// mine')
  })

  test('writes none for a worker that a bundler makes', () => {
    const { stdout } = tokenward('init', '.', '--no-worker')
    expect(stdout).toContain("import * as tokenward from 'tokenward/worker'")
    expect(stdout).not.toContain('importScripts(')
    expect(existsSync(join(site, 'sw.js'))).toBe(false)

    mkdirSync(join(site, 'src'))
    mkdirSync(join(site, 'public'))
    writeFileSync(join(site, 'src', 'sw.ts'), 'precacheAndRoute(self.__WB_MANIFEST)')
    const bundled = tokenward('init', 'public')
    expect(bundled.stdout).toContain(`${join('src', 'sw.ts')} is there already; at its top`)
    expect(bundled.stdout).toContain("import * as tokenward from 'tokenward/worker'")
    expect(bundled.stdout).toContain("createTokenManager('/sw.js')")
    expect(readdirSync(join(site, 'public')).sort()).toEqual(['tokenward', ...libraries])
  })

  test('takes public/ where no folder is named', () => {
    mkdirSync(join(site, 'public'))
    expect(tokenward('init').stdout).toContain(`Next, in ${join('public', 'sw.js')}`)
    expect(tokenward('check').status).toBe(0)
    expect(readdirSync(site)).toEqual(['public'])
  })

  test('changes nothing when run again', () => {
    tokenward('init', '.')
    const { status, stdout } = tokenward('init', '.')
    expect(status).toBe(0)
    expect(stdout).not.toMatch(/^(?:wrote|updated)/m)
    for (const file of libraries) expect(stdout).toContain(`up to date  ${file}`)
    // What was to do the first time is done.
    expect(stdout).not.toContain('Next,')
  })

  test.each(libraries)('says that %s is from an older version, and updates it', (file) => {
    tokenward('init', '.')
    writeFileSync(join(site, file), '/*! tokenward 0.0.1 | MIT */\nold()\n')
    const { status, stdout } = tokenward('init', '.')
    expect(status).toBe(0)
    expect(stdout).toContain(`updated     ${file} (from tokenward 0.0.1)`)
    expect(inSite(file)).toContain(`tokenward ${version}`)
  })

  test('adds the development build to a site that has only the other', () => {
    tokenward('init', '.')
    rmSync(join(site, 'tokenward-worker.development.js'))
    const { status, stdout } = tokenward('init', '.')
    expect(status).toBe(0)
    expect(stdout).toContain('wrote       tokenward-worker.development.js')
    expect(stdout).toContain('up to date  tokenward-worker.js')
  })

  test('does not overwrite files that it has not written, unless forced', () => {
    tokenward('init', '.')
    writeFileSync(join(site, 'tokenward-worker.js'), '// mine')
    writeFileSync(join(site, 'tokenward/callback.html'), '<p>Zurück zur <a href="../">App</a></p>')
    const { status, stdout } = tokenward('init', '.')
    expect(status).toBe(1)
    expect(stdout).toContain('kept        tokenward-worker.js')
    expect(inSite('tokenward-worker.js')).toBe('// mine')
    expect(inSite('tokenward/callback.html')).toContain('Zurück')

    expect(tokenward('init', '.', '--force').status).toBe(0)
    expect(inSite('tokenward-worker.js')).toContain(`tokenward ${version}`)
    expect(inSite('tokenward/callback.html')).not.toContain('Zurück')
  })

  test('puts the pages under another auth path, with links that lead back to the app', () => {
    const { stdout } = tokenward('init', '.', '--auth-path', 'auth/oidc')
    expect(readdirSync(join(site, 'auth/oidc')).sort()).toEqual(pages)
    expect(inSite('auth/oidc/callback.html')).toContain('href="../../"')
    expect(inSite('sw.js')).toContain("  authPath: 'auth/oidc/',")
    expect(stdout).toContain('https://app.example.com/auth/oidc/callback.html')
    expect(existsSync(join(site, 'tokenward'))).toBe(false)
  })
})

describe('tokenward check', () => {
  test('is content with what init has written', () => {
    tokenward('init', '.')
    expect(tokenward('check', '.')).toMatchObject({ status: 0, stderr: '' })
  })

  test('fails for missing files', () => {
    const { status, stdout } = tokenward('check', '.')
    expect(status).toBe(1)
    for (const file of libraries) expect(stdout).toContain(`${file} is missing`)
    expect(readdirSync(site)).toEqual([])
  })

  test.each(libraries)('fails for %s of another version', (file) => {
    tokenward('init', '.')
    writeFileSync(join(site, file), '/*! tokenward 0.0.1 | MIT */\nold()\n')
    const { status, stdout } = tokenward('check', '.')
    expect(status).toBe(1)
    expect(stdout).toContain(
      `${file} is not the file of tokenward ${version} (from tokenward 0.0.1)`,
    )
    expect(stdout).toContain('npx tokenward init .')
  })

  test('accepts a page in other words, but not one that does something', () => {
    tokenward('init', '.')
    const callback = join(site, 'tokenward/callback.html')
    writeFileSync(callback, '<p>Zurück zur <a href="../">App</a></p>')
    expect(tokenward('check', '.').status).toBe(0)
    writeFileSync(callback, '<script>parent.postMessage(location.href)</script>')
    const { status, stdout } = tokenward('check', '.')
    expect(status).toBe(1)
    expect(stdout).toContain('tokenward/callback.html has to be inert, and has a script')
  })
})

describe('tokenward', () => {
  test('explains itself', () => {
    expect(tokenward('--help').stdout).toContain('npx tokenward init <folder>')
    expect(tokenward('--version')).toMatchObject({ status: 0, stdout: `${version}\n` })
    expect(tokenward().status).toBe(1)
  })

  test.each([
    [['init'], 'Which folder does your site serve?'],
    [['init', 'nowhere'], 'There is no folder nowhere.'],
    [['init', 'file.txt'], 'file.txt is not a folder.'],
    [['init', 'a', 'b'], 'One folder at a time'],
    [['deploy', '.'], 'There is no command deploy'],
    [['init', '.', '--nope'], "Unknown option '--nope'"],
    [['init', '.', '--auth-path', '../up'], '--auth-path ../up: needs a folder below'],
    [['init', '.', '--auth-path', '/auth/'], '--auth-path /auth/: needs a folder below'],
  ])('%j ends with a clear word and exit code 2', (args, message) => {
    writeFileSync(join(site, 'file.txt'), '')
    const { status, stderr } = tokenward(...args)
    expect(status).toBe(2)
    expect(stderr).toContain(message)
    expect(stderr).not.toMatch(/^\s+at /m)
  })
})
