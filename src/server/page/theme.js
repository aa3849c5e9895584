// Light and dark colours: those of the system, or the user's choice.
import {$, saved} from './dom.js';

const THEMES = {auto: 'as the system', light: 'light', dark: 'dark'};

export function setUpTheme() {
  const show = (theme) => {
    document.documentElement.dataset.theme = theme;
    $('theme').setAttribute('aria-label', `Colours: ${THEMES[theme]}`);
    $('theme').title = `Colours: ${THEMES[theme]}`;
  };
  show(saved.get('theme') ?? 'auto');
  $('theme').addEventListener('click', () => {
    const names = Object.keys(THEMES);
    const theme = names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length];
    saved.set('theme', theme);
    show(theme);
  });
}
