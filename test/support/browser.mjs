// The browser of the tests: an installed Chrome, Chromium or Edge, or one that is fetched.
import { spawn } from 'node:child_process'
import { accessSync, constants, existsSync, realpathSync } from 'node:fs'
import { createRequire } from 'node:module'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = process.platform !== 'win32' && process.getuid?.() === 0

const isExecutable = (file) => {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}

const installed = {
  linux: () => {
    const names = [
      'google-chrome-stable',
      'google-chrome',
      'chromium',
      'chromium-browser',
      'microsoft-edge-stable',
      'microsoft-edge',
    ]
    const folders = (process.env.PATH ?? '').split(delimiter).filter(Boolean)
    return [
      ...names.flatMap((name) => folders.map((folder) => join(folder, name))),
      '/opt/google/chrome/chrome',
      '/opt/microsoft/msedge/msedge',
      '/usr/bin/chromium',
      '/snap/bin/chromium',
    ]
  },
  darwin: () => {
    const apps = ['Google Chrome', 'Chromium', 'Microsoft Edge']
    return ['', process.env.HOME ?? ''].flatMap((home) =>
      apps.map((app) => `${home}/Applications/${app}.app/Contents/MacOS/${app}`),
    )
  },
  win32: () => {
    const programs = ['Google\\Chrome', 'Chromium', 'Microsoft\\Edge'].map((folder) =>
      join(folder, 'Application', folder.endsWith('Edge') ? 'msedge.exe' : 'chrome.exe'),
    )
    return ['PROGRAMFILES', 'PROGRAMFILES(X86)', 'LOCALAPPDATA']
      .map((variable) => process.env[variable])
      .filter(Boolean)
      .flatMap((folder) => programs.map((program) => join(folder, program)))
  },
}

const systemBrowser = () => (installed[process.platform]?.() ?? []).find(isExecutable)

/** Where Playwright keeps a browser that it has downloaded. */
const playwrightBrowser = async () => {
  const { chromium } = await import('playwright-core')
  const file = chromium.executablePath()
  return file && existsSync(file) ? file : undefined
}

/**
 * Runs a command, its output shown, within a time limit; gives up earlier where `start` has not
 * shown up in the output within `startLimit`, as where a download is out of reach.
 */
const run = (command, args, { limit, start, startLimit = limit, env = {} }) =>
  new Promise((resolve) => {
    const child = spawn(command, args, {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const giveUp = (why) => {
      console.log(why)
      child.kill('SIGTERM')
    }
    const limitTimer = setTimeout(() => giveUp(`Not done after ${limit / 1000} s.`), limit)
    const startTimer = setTimeout(
      () => giveUp(`Nothing has come after ${startLimit / 1000} s.`),
      startLimit,
    )
    const show = (chunk) => {
      process.stdout.write(chunk)
      if (start?.test(chunk)) clearTimeout(startTimer)
    }
    child.stdout.setEncoding('utf8').on('data', show)
    child.stderr.setEncoding('utf8').on('data', show)
    const settle = (done) => {
      clearTimeout(limitTimer)
      clearTimeout(startTimer)
      resolve(done)
    }
    child.on('error', () => settle(false))
    child.on('close', (code) => settle(code === 0))
  })

const minutes = (n) => n * 60_000

const installWithPlaywright = async () => {
  const folder = dirname(createRequire(import.meta.url).resolve('playwright-core/package.json'))
  const cli = join(folder, 'cli.js')
  const done = await run(process.execPath, [cli, 'install', '--no-shell', 'chromium'], {
    limit: minutes(10),
    // The first words of its progress bar, with or without a terminal.
    start: /\d%/,
    startLimit: minutes(1),
    env: { PLAYWRIGHT_DOWNLOAD_CONNECTION_TIMEOUT: '15000' },
  })
  if (!done) return undefined
  if (root && process.platform === 'linux') {
    await run(process.execPath, [cli, 'install-deps', 'chromium'], { limit: minutes(5) })
  }
  return playwrightBrowser()
}

const installWithApt = async () => {
  const env = { DEBIAN_FRONTEND: 'noninteractive' }
  const limit = minutes(10)
  const done =
    (await run('apt-get', ['update'], { limit, env })) &&
    (await run('apt-get', ['install', '-y', '--no-install-recommends', 'chromium'], { limit, env }))
  return done ? systemBrowser() : undefined
}

const HOW_TO_INSTALL = `No browser for the browser tests. Do one of these and run the command again:
- install Google Chrome, Chromium or Microsoft Edge (Debian: sudo apt-get install chromium)
- set CHROME_PATH to the executable of one
- npx playwright-core install --with-deps chromium`

/**
 * The path of a browser: `CHROME_PATH`, an installed one, Playwright's own. With `install`, a
 * missing one is fetched: Playwright's download, else, as root on Debian, its chromium package.
 *
 * @param {{ install?: boolean }} [options]
 * @returns {Promise<string>}
 */
export const findBrowser = async ({ install = false } = {}) => {
  const chosen = process.env.CHROME_PATH
  if (chosen) {
    if (isExecutable(chosen)) return chosen
    throw new Error(`CHROME_PATH is ${chosen}, which is not an executable file.`)
  }
  const found = systemBrowser() ?? (await playwrightBrowser())
  if (found) return found
  if (install) {
    console.log("No Chrome, Chromium or Edge is installed; trying Playwright's own download.")
    const downloaded = await installWithPlaywright()
    if (downloaded) return downloaded
    if (root && existsSync('/etc/debian_version')) {
      console.log("The download did not succeed; trying Debian's package.")
      const packaged = await installWithApt()
      if (packaged) return packaged
    }
  }
  throw new Error(HOW_TO_INSTALL)
}

/**
 * Chromium heeds only the last `--disable-features`, so Playwright's own list (1.64) is repeated.
 */
const disabledFeatures = [
  'AimEnabled',
  'AutoDeElevate',
  'AvoidCorsURLLoaderRestartOnRedirect',
  'AvoidUnnecessaryBeforeUnloadCheckSync',
  'BlockOriginHeaderModificationOnRedirect',
  'DestroyProfileOnBrowserClose',
  'DialMediaRouteProvider',
  'GlobalMediaControls',
  'HttpsUpgrades',
  'LensOverlay',
  'MediaRouter',
  'NetworkTimeServiceQuerying',
  'OptimizationHints',
  'PaintHolding',
  'ThirdPartyStoragePartitioning',
  // A renderer in reserve for each new profile.
  'SpareRendererForSitePerProcess',
  'Translate',
  // The list below the address bar, which without a window costs each new profile a renderer that
  // is busy for a second: a third of the time of the browser tests.
  'WebUIOmniboxAimPopup',
  'WebUIOmniboxPopup',
]

/**
 * What `chromium.launch` and `launchPersistentContext` of playwright-core get. `HEADED=1` shows
 * the browser.
 */
export const launchOptions = async () => {
  const executablePath = await findBrowser()
  return {
    executablePath,
    headless: !process.env.HEADED,
    // Chromium's sandbox refuses root. Playwright's own build has no helper for systems that keep
    // unprivileged users from making one (Ubuntu since 23.10).
    chromiumSandbox: !root && executablePath !== (await playwrightBrowser()),
    args: [
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      `--disable-features=${disabledFeatures}`,
    ],
  }
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    console.log(await findBrowser({ install: process.argv.includes('--install') }))
  } catch (error) {
    console.error(error.message)
    process.exitCode = 1
  }
}
